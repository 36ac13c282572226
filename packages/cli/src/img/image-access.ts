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
import { splitOptions } from "./key-values.ts";
import { findSecret } from "./secrets.ts";

/** Options that every command of `img` has which opens images. */
export interface AccessOptions {
  readonly f?: string;
  readonly forceShare?: boolean;
  readonly quiet?: boolean;
  readonly t?: string;
  readonly T?: string;
  readonly allowDir?: readonly string[];
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
}

const CACHE_MODES = ["none", "writeback", "writethrough", "directsync", "unsafe"];

/** What `--object` says of itself. */
export const SECRET_HELP = "secret,id=ID,file=FILE or env=NAME: the passphrase of encrypted images";

/** Adds `-f`, `-U`, the cache modes, the rule of what images may open, and `-q` where the command can be quiet. */
export const withAccess = (command: Command, more?: { readonly quiet: false }): Command =>
  (more === undefined ? command.option("-q, --quiet", "print errors only") : command)
    .option("-f <FMT>", "format of the image: raw or qcow2; guessed from its first bytes where not stated")
    .option("-U, --force-share", "read though another process may write")
    .option("-t <CACHE>", `cache mode of what is written: ${CACHE_MODES.join(", ")}; none is O_DIRECT`)
    .option("-T <CACHE>", "cache mode of what is only read")
    .option(
      "--allow-dir <DIR>",
      "let images name backing and data files in this directory too; may be repeated",
      collect,
      [],
    )
    .option("--object <SECRET>", SECRET_HELP, collect, [])
    .option("--image-opts", "the image is driver=FMT,file.filename=FILE[,encrypt.key-secret=ID]");

/** How a command answers. */
export const outputOption = (): Option =>
  new Option("--output <FMT>", "how to answer").choices(["human", "json"]).default("human");

/** Cache modes that go past the page cache. */
const DIRECT_MODES = ["none", "directsync"];

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
  const named = namedImage(path, options);
  const format = more.format ?? named.format;
  return openImage(named.path, {
    allowedDirectories: options.allowDir ?? [],
    ...(options.forceShare === true ? { forceShare: true } : {}),
    direct: DIRECT_MODES.includes((more.readOnly === true ? options.T : options.t) ?? ""),
    ...(options.t === "unsafe" ? { unsafe: true } : {}),
    ...unlocking(options, named.secret),
    ...more,
    ...(format === undefined ? {} : { format }),
  });
}

/** The secret that the command line has for encrypted images. */
export function unlocking(options: AccessOptions, id?: string): Pick<OpenImageOptions, "passphrase"> {
  const passphrase = findSecret(options.object ?? [], id);
  return passphrase === undefined ? {} : { passphrase };
}

/** An image as the command line names it. */
export interface NamedImage {
  readonly path: string;
  /** Where it is stated. */
  readonly format: ImageFormat | undefined;
  /** Id of the secret that it is opened with, where it is stated. */
  readonly secret: string | undefined;
}

/** What FILE means: a path, or what `--image-opts` says of one. */
export function namedImage(text: string, options: Pick<AccessOptions, "f" | "imageOpts">): NamedImage {
  if (options.imageOpts !== true) {
    return { path: text, format: parseFormat(options.f, "-f"), secret: undefined };
  }
  if (options.f !== undefined) throw new CommandFailed(1, "--image-opts and a format are mutually exclusive");
  const named = splitOptions([text]);
  const path = named.get("file.filename") ?? named.get("filename");
  for (const name of named.keys()) {
    if (!IMAGE_OPTIONS.includes(name))
      throw new CommandFailed(1, `--image-opts: '${name}' is not known here`);
  }
  if (path === undefined)
    throw new CommandFailed(1, `--image-opts: expected file.filename=FILE, found '${text}'`);
  return {
    path,
    format: parseFormat(named.get("driver"), "--image-opts: driver"),
    secret: named.get("encrypt.key-secret"),
  };
}

const IMAGE_OPTIONS = [
  "driver",
  "file.driver",
  "file.filename",
  "filename",
  "encrypt.format",
  "encrypt.key-secret",
];

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
