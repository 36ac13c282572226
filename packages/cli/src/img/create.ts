import { dirname, isAbsolute, join } from "node:path";
import { Option } from "commander";
import { collect } from "../commands/validate.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { formattingLine, makeImage, optionsHelp, parseNewImage, sizeOfBacking } from "./create-options.ts";
import { parseFormat, SECRET_HELP } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

interface CreateOptions {
  readonly f: string;
  readonly q?: boolean;
  readonly b?: string;
  readonly F?: string;
  readonly u?: boolean;
  readonly o: readonly string[];
  readonly allowDir: readonly string[];
  readonly object: readonly string[];
}

export const registerCreate: RegisterCommand = (img, host) => {
  img
    .command("create")
    .description("make an empty image")
    .argument("[FILE]", "the new image; not needed for -o help")
    .argument("[SIZE]", "bytes, or with K, M, G, T")
    .addOption(new Option("-f <FMT>", "raw or qcow2").default("raw"))
    .option("-q", "print errors only")
    .option("-b <FILE>", "stand on this image")
    .option("-F <FMT>", "the format of that image")
    .option("-u", "do not open the backing image")
    .option("-o <OPTIONS>", "options of the format: a=1,b=2; may be repeated", collect, [])
    .option("--object <SECRET>", SECRET_HELP, collect, [])
    .option("--allow-dir <DIR>", "let the backing image name files in this directory too", collect, [])
    .action((path: string | undefined, sizeText: string | undefined, options: CreateOptions) => {
      const format = parseFormat(options.f, "-f") ?? "raw";
      const help = optionsHelp(format, options.o);
      if (help !== undefined) {
        host.stdout.write(help);
        return;
      }
      if (path === undefined) throw new CommandFailed(1, "missing required argument 'FILE'");
      const image = parseNewImage(format, options.o, {
        ...(sizeText === undefined ? {} : { size: parseSize(sizeText, "SIZE") }),
        ...(options.b === undefined ? {} : { backingFile: options.b }),
        ...(options.F === undefined ? {} : { backingFormat: options.F }),
        objects: options.object,
      });
      if (format === "raw" && image.backingFile !== undefined) {
        throw new CommandFailed(1, "-b: a raw image cannot stand on another image");
      }
      let { size } = image;
      if (image.backingFile !== undefined) {
        if (image.backingFormat === undefined) {
          throw new CommandFailed(1, `-b: the format of '${image.backingFile}' must be stated with -F`);
        }
        if (options.u !== true) {
          const backing = parseFormat(image.backingFormat, "-F") ?? "raw";
          const full = isAbsolute(image.backingFile)
            ? image.backingFile
            : join(dirname(path), image.backingFile);
          const found = sizeOfBacking(full, backing, options.allowDir);
          size ??= found;
        }
      }
      if (size === undefined) throw new CommandFailed(1, "the size of the image must be stated");
      size = Math.ceil(size / 512) * 512;
      makeImage(path, image, size);
      if (options.q !== true) host.stdout.write(`${formattingLine(path, image, size)}\n`);
    });
};
