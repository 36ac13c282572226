import { existsSync } from "node:fs";
import { dirname } from "node:path";
import {
  copyImage,
  type DiskImage,
  type ImageFormat,
  JoinedImage,
  openImage,
  Qcow2Image,
} from "@northbridge/storage-qcow2";
import { collect } from "../commands/validate.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { makeImage, optionsHelp, parseNewImage } from "./create-options.ts";
import {
  type AccessOptions,
  asQcow2,
  type NamedImage,
  namedImage,
  openAs,
  parseFormat,
  unlocking,
  withAccess,
} from "./image-access.ts";
import { ProgressLine } from "./progress.ts";
import { parseCount, parseSize } from "./sizes.ts";

interface ConvertOptions extends AccessOptions {
  readonly O?: string;
  readonly B?: string;
  readonly F?: string;
  readonly bitmaps?: boolean;
  readonly c?: boolean;
  readonly p?: boolean;
  readonly n?: boolean;
  readonly l?: string;
  readonly m: string;
  readonly o: readonly string[];
  readonly S?: string;
  readonly salvage?: boolean;
  readonly skipBrokenBitmaps?: boolean;
  readonly targetImageOpts?: boolean;
  readonly targetIsZero?: boolean;
}

/** qemu-img's bound of `-m`. */
const MAX_PARALLEL = 16;

export const registerConvert: RegisterCommand = (img, host) => {
  withAccess(img.command("convert"))
    .description("copy images into a new one")
    .argument("<FILE...>", "what to copy, one behind the other, and the new image")
    .option("-O <FMT>", "format of the new image, or of the one that -n names; raw where not stated")
    .option("-B <FILE>", "the new image stands on this one, as the source does: only what differs is copied")
    .option("-F <FMT>", "format of that image")
    .option("-c", "compress (qcow2)")
    .option("-p", "show progress")
    .option("-n", "write into an image that is there")
    .option(
      "-l <SNAPSHOT>",
      "copy an internal snapshot: its id, its name, or snapshot.id=… or snapshot.name=…",
    )
    .option("-m <N>", "clusters to compress at the same time", "8")
    .option("-W", "allow writes out of order")
    .option("-C", "allow the file system to copy")
    .option("-r <RATE>", "accepted and ignored")
    .option("-o <OPTIONS>", "options of the new image's format; may be repeated", collect, [])
    .option("-S <BYTES>", "bytes in a row that must be zero for a hole; 0 writes everything")
    .option("--salvage", "read as zeroes what cannot be read")
    .option("--bitmaps", "copy the bitmaps of the source too")
    .option("--skip-broken-bitmaps", "but not those that are inconsistent")
    .option(
      "--target-image-opts",
      "with -n: the target is driver=FMT,file.filename=FILE[,encrypt.key-secret=ID]",
    )
    .option("--target-is-zero", "with -n: the target reads as zeroes")
    .action((files: readonly string[], options: ConvertOptions) => convert(files, options));

  async function convert(files: readonly string[], options: ConvertOptions): Promise<void> {
    const target = files.at(-1);
    if (target === undefined || files.length < 2)
      throw new CommandFailed(1, "expected a source and a target");
    const named = targetOf(target, options);
    const help = named.format && optionsHelp(named.format, options.o);
    if (help !== undefined) {
      host.stdout.write(help);
      return;
    }
    const parallel = parseCount(options.m, "-m");
    if (parallel < 1 || parallel > MAX_PARALLEL)
      throw new CommandFailed(1, `-m: expected 1 to ${MAX_PARALLEL}, found ${parallel}`);
    if (options.c === true && named.format === "raw") throw noCompression();
    if (options.targetIsZero === true && options.n !== true)
      throw new CommandFailed(1, "--target-is-zero requires -n");
    if (options.B !== undefined && files.length > 2)
      throw new CommandFailed(1, "-B makes no sense with several sources");
    const snapshot = options.l?.replace(/^snapshot\.(?:id|name)=/, "");
    const opened: DiskImage[] = [];
    try {
      for (const file of files.slice(0, -1)) {
        opened.push(
          openAs(file, options, { readOnly: true, ...(snapshot === undefined ? {} : { snapshot }) }),
        );
      }
      const [first] = opened;
      const total = opened.reduce((sum, { size }) => sum + size, 0);
      if (options.n !== true) makeTarget(named.path, named.format ?? "raw", total, options);
      else if (!existsSync(named.path))
        throw new CommandFailed(1, `${named.path}: -n needs an image that is there`);
      // As with qemu-img, a convert that fails is started again: nothing is made stable unless -t says so.
      const isUnsafe = options.t === undefined || options.t === "unsafe";
      const out = openImage(named.path, {
        ...(named.format === undefined ? {} : { format: named.format }),
        unsafe: isUnsafe,
        direct: options.t === "none" || options.t === "directsync",
        ...unlocking(options, named.secret),
        // The command line names the backing image, so it may lie anywhere.
        allowedDirectories: [
          ...(options.allowDir ?? []),
          ...(options.B === undefined ? [] : [dirname(options.B)]),
        ],
      });
      opened.push(out);
      if (options.c === true && !(out instanceof Qcow2Image)) throw noCompression();
      if (out.size < total)
        throw new CommandFailed(1, `${named.path}: ${out.size} bytes are too few for ${total}`);
      await copyAll(opened.slice(0, -1), out, options);
      if (options.bitmaps === true && first !== undefined)
        copyBitmaps(first, out, options.skipBrokenBitmaps === true);
      if (!isUnsafe) out.flushNow();
    } catch (error) {
      for (const image of opened) if (image.readOnly) image.closeNow();
      throw error;
    }
    for (const image of opened) image.closeNow();
  }

  async function copyAll(
    sources: readonly DiskImage[],
    out: DiskImage,
    options: ConvertOptions,
  ): Promise<void> {
    const progress = new ProgressLine(host, options.p === true && options.quiet !== true);
    // What is preallocated in an encrypted image reads as anything.
    const isNew = options.n !== true && !(out instanceof Qcow2Image && out.meta.isEncrypted);
    const [only, ...more] = sources;
    // One disk, so that a cluster that is compressed may begin in one image and end in the next.
    const source = only !== undefined && more.length === 0 ? only : new JoinedImage(sources);
    await copyImage(source, out, {
      compress: options.c === true,
      parallel: parseCount(options.m, "-m"),
      sharedBacking: options.B !== undefined,
      targetIsZero: options.targetIsZero === true || (isNew && options.B === undefined),
      ...(options.S === undefined ? {} : { sparseBytes: sparseBytes(options.S) }),
      ...(options.salvage === true
        ? {
            onReadError: (offset: number) => {
              if (options.quiet !== true)
                host.stderr.write(`warning: error while reading offset ${offset}\n`);
            },
          }
        : {}),
      onProgress: progress.part(),
    });
    progress.end();
  }
};

const noCompression = (): CommandFailed => new CommandFailed(1, "-c: a raw image cannot be compressed");

/** What the last FILE means. */
function targetOf(text: string, options: ConvertOptions): NamedImage {
  if (options.targetImageOpts !== true)
    return { path: text, format: parseFormat(options.O, "-O") ?? "raw", secret: undefined };
  if (options.n !== true) throw new CommandFailed(1, "--target-image-opts requires use of -n flag");
  const format = options.O === undefined ? {} : { f: options.O };
  return namedImage(text, { ...format, imageOpts: true });
}

function makeTarget(path: string, format: ImageFormat, total: number, options: ConvertOptions): void {
  const image = parseNewImage(format, options.o, {
    ...(options.B === undefined ? {} : { backingFile: options.B }),
    ...(options.F === undefined ? {} : { backingFormat: options.F }),
    objects: options.object,
  });
  if (options.c === true && image.qcow2.encryption !== undefined)
    throw new CommandFailed(1, "Compression and encryption not supported at the same time");
  if (image.backingFile !== undefined && image.backingFormat === undefined) {
    throw new CommandFailed(1, `-B: the format of '${image.backingFile}' must be stated with -F`);
  }
  makeImage(path, image, Math.max(total, image.size ?? 0));
}

function sparseBytes(text: string): number {
  const bytes = parseSize(text, "-S");
  if (bytes % 512 !== 0) throw new CommandFailed(1, `-S: expected a multiple of 512, found ${bytes}`);
  return bytes;
}

function copyBitmaps(source: DiskImage, target: DiskImage, skipBroken: boolean): void {
  const from = asQcow2(source, "--bitmaps");
  if (!(target instanceof Qcow2Image)) throw new CommandFailed(1, "--bitmaps needs a qcow2 target");
  for (const { name, granularity, isEnabled, isInconsistent } of from.bitmaps.list()) {
    if (isInconsistent) {
      if (skipBroken) continue;
      throw new CommandFailed(1, `bitmap '${name}' is inconsistent: --skip-broken-bitmaps leaves it out`);
    }
    target.bitmaps.add(name, granularity);
    target.bitmaps.merge(name, from.bitmaps.get(name));
    target.bitmaps.setEnabled(name, isEnabled);
  }
}
