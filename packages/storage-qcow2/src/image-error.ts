import { getSystemErrorMessage } from "node:util";
import { NorthbridgeError } from "@northbridge/sdk";

/** What is wrong with an image, in words that scripts may match on. */
export type ImageFault =
  /** Not an image of the stated format, or one with fields outside the format's limits. */
  | "invalid"
  /** Something the format allows and this package does not have. */
  | "unsupported"
  /** Metadata that contradict each other: nothing is written before a repair. */
  | "corrupt"
  /** A file that the path rule does not let the image name. */
  | "confined"
  /** Impossible options, or something that such an image cannot do. */
  | "request"
  /** A request outside the image, or to change one that is only read. */
  | "refused"
  /** Another process uses the image in a way that excludes ours. */
  | "locked"
  /** The host's file system refused. */
  | "host";

/** A disk image that cannot be opened, read or written. The message names the file. */
export class ImageError extends NorthbridgeError {
  override readonly name = "ImageError";
  readonly fault: ImageFault;
  readonly path: string;

  constructor(path: string, fault: ImageFault, message: string, options?: ErrorOptions) {
    super(
      ["host", "corrupt", "locked", "refused"].includes(fault) ? "NB_HOST" : "NB_CONFIG",
      `${path}: ${message}`,
      options,
    );
    this.fault = fault;
    this.path = path;
  }
}

/** What the host said to an attempt at a file, in words. */
export function hostError(path: string, attempt: string, error: unknown): ImageError {
  return new ImageError(path, "host", `cannot ${attempt}: ${reasonOf(error)}`, { cause: error });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { errno } = error as NodeJS.ErrnoException;
  return typeof errno === "number" ? getSystemErrorMessage(errno) : error.message;
}
