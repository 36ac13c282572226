import {
  type DiskImage,
  type ImageFormat,
  openImage,
  type OpenImageOptions,
  Qcow2Image,
} from "@northbridge/storage-qcow2";
import { type Command, Option } from "commander";
import { CommandFailed } from "../host.ts";
import { collect } from "../commands/validate.ts";

/** Options that every command of `img` has which opens images. */
export interface AccessOptions {
  readonly f?: string;
  readonly forceShare?: boolean;
  readonly quiet?: boolean;
  readonly t?: string;
  readonly T?: string;
  readonly allowDir?: readonly string[];
}

/** Adds `-f`, `-q`, `-U`, the cache modes, and the rule of what images may open. */
export const withAccess = (command: Command): Command =>
  command
    .option("-f <FMT>", "format of the image: raw or qcow2; guessed from its first bytes where not stated")
    .option("-q, --quiet", "print errors only")
    .option("-U, --force-share", "read though another process may write")
    .addOption(new Option("-t <CACHE>", "cache mode of what is written").hideHelp())
    .addOption(new Option("-T <CACHE>", "cache mode of what is read").hideHelp())
    .option(
      "--allow-dir <DIR>",
      "let images name backing and data files in this directory too; may be repeated",
      collect,
      [],
    );

const CACHE_MODES = ["none", "writeback", "writethrough", "directsync", "unsafe"];

export function parseFormat(name: string | undefined, option: string): ImageFormat | undefined {
  if (name === undefined || name === "raw" || name === "qcow2") return name;
  throw new CommandFailed(1, `${option}: expected raw or qcow2, found '${name}'`);
}

/** Opens an image as the command line says. */
export function openAs(path: string, options: AccessOptions, more: OpenImageOptions): DiskImage {
  for (const mode of [options.t, options.T]) {
    if (mode !== undefined && !CACHE_MODES.includes(mode)) {
      throw new CommandFailed(1, `expected a cache mode (${CACHE_MODES.join(", ")}), found '${mode}'`);
    }
  }
  const format = more.format ?? parseFormat(options.f, "-f");
  return openImage(path, {
    allowedDirectories: options.allowDir ?? [],
    ...(options.forceShare === true ? { forceShare: true } : {}),
    ...(options.t === "unsafe" ? { unsafe: true } : {}),
    ...more,
    ...(format === undefined ? {} : { format }),
  });
}

/** Opens, uses and closes an image. What fails to close makes the command fail. */
export async function usingImage<T>(
  path: string,
  options: AccessOptions,
  more: OpenImageOptions,
  use: (image: DiskImage) => T | Promise<T>,
): Promise<T> {
  const image = openAs(path, options, more);
  let result: T;
  try {
    result = await use(image);
  } catch (error) {
    try {
      image.closeNow();
    } catch {
      // The first failure says more.
    }
    throw error;
  }
  image.closeNow();
  return result;
}

export function asQcow2(image: DiskImage, what: string): Qcow2Image {
  if (image instanceof Qcow2Image) return image;
  throw new CommandFailed(1, `${image.path}: ${what} needs a qcow2 image`);
}
