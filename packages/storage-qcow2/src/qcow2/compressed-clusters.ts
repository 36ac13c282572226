import type { ClusterEntry } from "./cluster-map.ts";
import { DecompressionError, decompress } from "./compression.ts";
import type { Qcow2Metadata } from "./metadata.ts";

const KEPT = 8;

/** Reads compressed clusters, and keeps the last few inflated. */
export class CompressedClusters {
  readonly #meta: Qcow2Metadata;
  readonly #kept = new Map<number, Uint8Array>();

  constructor(meta: Qcow2Metadata) {
    this.#meta = meta;
  }

  /** The cluster's bytes; the caller copies what it needs. */
  read(entry: ClusterEntry): Uint8Array {
    const known = this.#kept.get(entry.hostOffset);
    if (known !== undefined) return known;
    const packed = new Uint8Array(entry.compressedBytes);
    this.#meta.file.file.read(entry.hostOffset, packed);
    let bytes: Uint8Array;
    try {
      bytes = decompress(this.#meta.header.compressionType, packed, this.#meta.clusterSize);
    } catch (error) {
      if (error instanceof DecompressionError) {
        this.#meta.corrupt(`the compressed cluster at ${entry.hostOffset} cannot be read: ${error.message}`);
      }
      throw error;
    }
    if (this.#kept.size >= KEPT) {
      const [oldest] = this.#kept.keys();
      if (oldest !== undefined) this.#kept.delete(oldest);
    }
    this.#kept.set(entry.hostOffset, bytes);
    return bytes;
  }

  /** Forgets everything: a cluster that was freed may come back with other content. */
  forget(): void {
    this.#kept.clear();
  }
}
