import {
  type DiskImage,
  type Extent,
  expectInside,
  expectWritable,
  SynchronousImage,
} from "../disk-image.ts";
import type { BlockFile } from "../file/block-file.ts";
import { ImageError } from "../image-error.ts";
import { ClusterWriter } from "./cluster-writer.ts";
import { runAt } from "./cluster-map.ts";
import { CompressedClusters } from "./compressed-clusters.ts";
import { decodeHeader, hasDataFile, type Qcow2Header } from "./header.ts";
import { type CacheBounds, Qcow2Metadata } from "./metadata.ts";
import { Autoclear, Incompatible, MAX_CLUSTER_BITS } from "./spec.ts";

/** What {@link Qcow2Image.open} takes beside the file. */
export interface Qcow2Options extends CacheBounds {
  /** The image below. Without it, unallocated clusters read as zeroes. */
  readonly backing?: DiskImage;
  /** The external data file of an image that has one. */
  readonly dataFile?: BlockFile;
  /** No barriers between writes: for an image that is thrown away when the host fails. */
  readonly unsafe?: boolean;
  /** Opens for writing what is marked dirty or corrupt: for a repair. */
  readonly repairing?: boolean;
}

/** Reads the header of a qcow2 file. */
export function readHeader(file: BlockFile): Qcow2Header {
  const bytes = new Uint8Array(Math.min(file.size(), 2 ** MAX_CLUSTER_BITS));
  file.read(0, bytes);
  return decodeHeader(bytes, file.path);
}

/**
 * A qcow2 image, version 2 or 3 (docs/interop/qcow2). Not modelled: encryption, and bitmaps, which lose their
 * autoclear bit on the first write as the format says.
 */
export class Qcow2Image extends SynchronousImage {
  readonly format = "qcow2";
  readonly path: string;
  readonly readOnly: boolean;
  readonly backing: DiskImage | undefined;
  /** The tables, for tools of this package. */
  readonly meta: Qcow2Metadata;
  readonly #file: BlockFile;
  readonly #dataFile: BlockFile | undefined;
  readonly #compressed: CompressedClusters;
  readonly #writer: ClusterWriter;
  #closed = false;

  private constructor(header: Qcow2Header, file: BlockFile, options: Qcow2Options) {
    super();
    this.path = file.path;
    this.readOnly = file.readOnly;
    this.backing = options.backing;
    this.#file = file;
    this.#dataFile = options.dataFile;
    this.meta = new Qcow2Metadata(header, file, options.dataFile, {
      ...options,
      unsafe: options.unsafe ?? false,
    });
    this.#compressed = new CompressedClusters(this.meta);
    this.#writer = new ClusterWriter(this.meta, this.#compressed, {
      hasBacking: this.backing !== undefined,
      readOld: (offset, into) => this.readAt(offset, into),
    });
  }

  /** @throws {@link ImageError} */
  static open(file: BlockFile, options: Qcow2Options = {}): Qcow2Image {
    const header = readHeader(file);
    const needsDataFile = hasDataFile(header);
    if (needsDataFile !== (options.dataFile !== undefined)) {
      throw new ImageError(
        file.path,
        "request",
        needsDataFile ? "the image keeps its data in another file" : "the image has no external data file",
      );
    }
    if (!file.readOnly && options.repairing !== true) {
      if ((header.incompatible & Incompatible.CORRUPT) !== 0n) {
        throw new ImageError(
          file.path,
          "corrupt",
          "the image is marked corrupt: repair it before writing to it",
        );
      }
      if ((header.incompatible & Incompatible.DIRTY) !== 0n) {
        throw new ImageError(
          file.path,
          "corrupt",
          "the image was not closed: check and repair its refcounts first",
        );
      }
    }
    const image = new Qcow2Image(header, file, options);
    if (!file.readOnly) image.#clearAutoclear();
    return image;
  }

  get header(): Qcow2Header {
    return this.meta.header;
  }

  get size(): number {
    return this.meta.header.size;
  }

  readAt(offset: number, into: Uint8Array): void {
    const inside = Math.max(0, Math.min(into.length, this.size - offset));
    if (inside < into.length) into.fill(0, inside);
    let done = 0;
    while (done < inside) {
      const run = runAt(this.meta, offset + done, inside - done);
      const part = into.subarray(done, done + run.length);
      switch (run.kind) {
        case "data":
          this.meta.dataFile.file.read(run.hostOffset, part);
          break;
        case "zero":
          part.fill(0);
          break;
        case "compressed": {
          const within = (offset + done) % this.meta.clusterSize;
          part.set(this.#compressed.read(run.entry).subarray(within, within + part.length));
          break;
        }
        case "unallocated":
          if (this.backing === undefined) part.fill(0);
          else this.backing.readAt(offset + done, part);
      }
      done += run.length;
    }
  }

  writeAt(offset: number, from: Uint8Array): void {
    this.#expectRequest(offset, from.length);
    this.#writer.write(offset, from);
  }

  /** Writes one whole cluster compressed, or as it is where that is no smaller. `packed` is what compression made. */
  writeCompressedCluster(offset: number, from: Uint8Array, packed?: Uint8Array): void {
    this.#expectRequest(offset, Math.min(from.length, this.size - offset));
    this.#writer.writeCompressed(offset, from, packed);
  }

  writeZeroesAt(offset: number, length: number, mayUnmap: boolean): void {
    this.#expectRequest(offset, length);
    this.#writer.writeZeroes(offset, length, mayUnmap);
  }

  discardAt(offset: number, length: number): void {
    this.#expectRequest(offset, length);
    this.#writer.discard(offset, length);
  }

  /** Makes whole clusters show the backing image again; the image must be the top of its chain. */
  unmapAt(offset: number, length: number): void {
    this.#expectRequest(offset, length);
    this.#writer.unmap(offset, length);
  }

  flushNow(): void {
    if (!this.readOnly) this.meta.flush();
  }

  extentAt(offset: number, length: number): Extent {
    expectInside(this, offset, 0);
    const run = runAt(this.meta, offset, Math.min(length, this.size - offset));
    return {
      length: run.length,
      kind: run.kind,
      fileOffset: run.hostOffset < 0 ? undefined : run.hostOffset,
    };
  }

  /** Bytes that the host allocated for the image and its data file. */
  allocated(): number {
    return (this.#file.allocated?.() ?? this.#file.size()) + (this.#dataFile?.allocated?.() ?? 0);
  }

  /** Length of the image's file. */
  fileSize(): number {
    return this.#file.size();
  }

  closeNow(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (!this.readOnly) this.meta.settle();
    } finally {
      this.#dataFile?.close();
      this.#file.close();
      this.backing?.closeNow();
    }
  }

  /** Closes without writing what is in the caches: the file is as a crash would leave it. */
  abandon(): void {
    this.#closed = true;
    this.#dataFile?.close();
    this.#file.close();
    this.backing?.closeNow();
  }

  #expectRequest(offset: number, length: number): void {
    expectWritable(this);
    expectInside(this, offset, length);
  }

  /** Bitmaps are not kept up to date here, and what we do not know we cannot keep either. */
  #clearAutoclear(): void {
    const { header } = this.meta;
    const kept = header.autoclear & Autoclear.RAW_DATA_FILE;
    if (kept === header.autoclear) return;
    header.autoclear = kept;
    this.meta.writeHeader();
    this.meta.file.sync();
  }
}
