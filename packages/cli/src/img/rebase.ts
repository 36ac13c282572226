import { dirname, isAbsolute, join } from "node:path";
import { copyForRebase, type DiskImage, openImage } from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import {
  type AccessOptions,
  asQcow2,
  parseFormat,
  unlocking,
  usingImage,
  withAccess,
} from "./image-access.ts";
import { ProgressLine } from "./progress.ts";

interface RebaseOptions extends AccessOptions {
  readonly b: string;
  readonly F?: string;
  readonly u?: boolean;
  readonly p?: boolean;
}

export const registerRebase: RegisterCommand = (img, host) => {
  withAccess(img.command("rebase"))
    .description("make an image stand on another one")
    .argument("<FILE>")
    .requiredOption("-b <FILE>", "the image to stand on; an empty name for none")
    .option("-F <FMT>", "its format")
    .option("-u", "only change the name: the content of the two is the same")
    .option("-p", "show progress")
    .action((path: string, options: RebaseOptions) =>
      usingImage(path, options, { withoutBacking: options.u === true }, (opened) => {
        const image = asQcow2(opened, "a rebase");
        const name = options.b === "" ? undefined : options.b;
        const format = parseFormat(options.F, "-F");
        if (name !== undefined && format === undefined) {
          throw new CommandFailed(1, `-b: the format of '${name}' must be stated with -F`);
        }
        let next: DiskImage | undefined;
        if (name !== undefined && options.u !== true) {
          const full = isAbsolute(name) ? name : join(dirname(path), name);
          next = openImage(full, {
            readOnly: true,
            allowedDirectories: options.allowDir ?? [],
            ...unlocking(options),
            ...(format === undefined ? {} : { format }),
          });
        }
        try {
          const progress = new ProgressLine(host, options.p === true && options.quiet !== true);
          if (options.u !== true) copyForRebase(image, next, progress.part());
          image.setBackingFile(name, name === undefined ? undefined : format);
          progress.end();
        } finally {
          next?.closeNow();
        }
      }),
    );
};
