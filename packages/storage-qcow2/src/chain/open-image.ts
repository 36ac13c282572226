import { realpathSync } from "node:fs";
import { dirname, isAbsolute, join, sep } from "node:path";
import type { DiskImage, ImageFormat } from "../disk-image.ts";
import type { BlockFile } from "../file/block-file.ts";
import { DirectFile } from "../file/direct-file.ts";
import { NodeFile } from "../file/node-file.ts";
import { hostError, ImageError } from "../image-error.ts";
import { extensionText, hasDataFile, readHeader } from "../qcow2/header.ts";
import { Qcow2Image, type Qcow2Options } from "../qcow2/qcow2-image.ts";
import { Extension, QCOW2_MAGIC } from "../qcow2/spec.ts";
import { RawImage } from "../raw/raw-image.ts";

/** Longer chains are refused: nobody needs them, and each costs an open file. */
const MAX_CHAIN = 200;

/** How {@link openImage} opens. */
export interface OpenImageOptions
  extends Pick<
    Qcow2Options,
    "l2CacheBytes" | "refcountCacheBytes" | "unsafe" | "snapshot" | "passphrase" | "encryptedAs"
  > {
  /** Without it the format is taken from the first bytes: for an image whose content is trusted. */
  readonly format?: ImageFormat;
  readonly readOnly?: boolean;
  /** Directories, beside the image's own, whose files a chain may name. */
  readonly allowedDirectories?: readonly string[];
  /** `refuse`: an image that stands on another one is not opened. `follow` by default. */
  readonly backing?: "follow" | "refuse";
  /** Leaves the backing image closed: what is not allocated reads as zeroes. */
  readonly withoutBacking?: boolean;
  /** The backing image may be changed too, or `all` of the chain: for commit. */
  readonly writableBacking?: boolean | "all";
  /** An image stands on it: nobody may write to it, not even where it is raw and only read. */
  readonly asBacking?: boolean;
  /** Another opener of this process has the file and handed it over (`DiskImage.handOver`): its locks hold. */
  readonly isHandedOver?: boolean;
  /** Goes past the host's page cache (`O_DIRECT`), where the host and its file system can. */
  readonly direct?: boolean;
  /** Reads though another process may write, and does not keep it from doing so: what is read may be torn. */
  readonly forceShare?: boolean;
}

/**
 * Opens a disk image and the images it stands on.
 *
 * An image names its backing and data files itself, and an image may come from anybody. A named file is opened only
 * where its format is stated, and only in the directory of the image that names it (symbolic links followed) or in
 * one of `allowedDirectories`.
 * @throws {@link ImageError}, with fault `confined` where that rule refuses
 */
export function openImage(path: string, options: OpenImageOptions = {}): DiskImage {
  return openLink(path, options, new Set());
}

function openLink(path: string, options: OpenImageOptions, above: Set<string>): DiskImage {
  const real = realPath(path);
  if (above.has(real))
    throw new ImageError(path, "invalid", "the chain of backing files comes back to itself");
  if (above.size >= MAX_CHAIN)
    throw new ImageError(path, "invalid", `the chain has more than ${MAX_CHAIN} images`);
  above.add(real);
  const readOnly = options.readOnly ?? false;
  const direct = options.direct ?? false;
  const opened = NodeFile.open(path, { readOnly, sharing: "later", direct });
  const file = direct ? new DirectFile(opened) : opened;
  let dataFile: BlockFile | undefined;
  let backing: DiskImage | undefined;
  try {
    const format = options.format ?? probeFormat(file);
    const isTop = above.size === 1;
    if (options.forceShare === true && !readOnly)
      throw new ImageError(path, "request", "what another process may write is opened for reading only");
    const sharing =
      options.forceShare === true
        ? "anything"
        : format === "raw" && isTop && readOnly && options.asBacking !== true
          ? "writers"
          : "readers";
    opened.lock(sharing, options.isHandedOver);
    if (format === "raw") return new RawImage(file);
    const header = readHeader(file);
    if (hasDataFile(header)) {
      const name = extensionText(header, Extension.DATA_FILE);
      if (name === undefined) throw new ImageError(path, "invalid", "the image does not name its data file");
      const named = NodeFile.open(confined(path, name, "data file", options), {
        readOnly,
        sharing: "later",
        direct,
      });
      dataFile = direct ? new DirectFile(named) : named;
      named.lock(sharing, options.isHandedOver);
    }
    if (header.backingFile !== undefined && options.backing === "refuse") {
      throw new ImageError(
        path,
        "confined",
        `the image stands on '${header.backingFile}', and may stand on nothing`,
      );
    }
    if (header.backingFile !== undefined && options.withoutBacking !== true) {
      const format = backingFormat(path, extensionText(header, Extension.BACKING_FORMAT));
      const { format: _, snapshot: _s, writableBacking = false, ...inherited } = options;
      backing = openLink(
        confined(path, header.backingFile, "backing file", options),
        {
          ...inherited,
          format,
          isHandedOver: false,
          readOnly: writableBacking === false,
          writableBacking: writableBacking === "all" && "all",
        },
        above,
      );
    }
    const { backing: _, ...own } = options;
    return Qcow2Image.open(file, {
      ...own,
      ...(backing === undefined ? {} : { backing }),
      ...(dataFile === undefined ? {} : { dataFile }),
    });
  } catch (error) {
    backing?.closeNow();
    dataFile?.close();
    file.close();
    throw error;
  }
}

/** What the first bytes look like. Anything may look like anything: state the format of a file you do not trust. */
export function probeFormat(file: Pick<BlockFile, "read">): ImageFormat {
  const magic = new Uint8Array(4);
  file.read(0, magic);
  return new DataView(magic.buffer).getUint32(0) === QCOW2_MAGIC ? "qcow2" : "raw";
}

function backingFormat(path: string, stated: string | undefined): ImageFormat {
  if (stated === undefined) {
    throw new ImageError(path, "confined", "the image does not state the format of its backing file");
  }
  if (stated === "raw" || stated === "file" || stated === "host_device") return "raw";
  if (stated === "qcow2") return "qcow2";
  throw new ImageError(path, "unsupported", `backing format: expected raw or qcow2, found '${stated}'`);
}

/** The file that an image names, where it may name it. */
function confined(image: string, name: string, what: string, options: OpenImageOptions): string {
  const plain = name.startsWith("file:") ? name.slice("file:".length) : name;
  if (/^[a-z][a-z0-9+.-]*:/i.test(plain)) {
    throw new ImageError(image, "confined", `${what} '${name}': only files are followed`);
  }
  const own = dirname(realPath(image));
  const target = isAbsolute(plain) ? plain : join(dirname(image), plain);
  const real = realPath(target);
  const allowed = [own, ...(options.allowedDirectories ?? []).map((directory) => realPath(directory))];
  if (!allowed.some((directory) => real.startsWith(directory.endsWith(sep) ? directory : directory + sep))) {
    throw new ImageError(
      image,
      "confined",
      `${what} '${name}' lies outside the image's directory ${own}, and no other directory was allowed`,
    );
  }
  return target;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw hostError(path, "open", error);
  }
}
