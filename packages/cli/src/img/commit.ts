import { dirname, resolve } from "node:path";
import { commitImage, type DiskImage, emptyImage } from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, usingImage, withAccess } from "./image-access.ts";
import { ProgressLine } from "./progress.ts";

interface CommitOptions extends AccessOptions {
  readonly b?: string;
  readonly d?: boolean;
  readonly p?: boolean;
}

export const registerCommit: RegisterCommand = (img, host) => {
  withAccess(img.command("commit"))
    .description("write what an image has into the image it stands on")
    .argument("<FILE>")
    .option(
      "-b <BASE>",
      "into this image of the chain, by the name that the image above has for it; implies -d",
    )
    .option("-d", "do not empty the image afterwards")
    .option("-p", "show progress")
    .option("-r <RATE>", "accepted and ignored")
    .action((path: string, options: CommitOptions) =>
      usingImage(path, options, { writableBacking: options.b === undefined ? true : "all" }, (image) => {
        const base = findBase(image, options.b);
        const progress = new ProgressLine(host, options.p === true && options.quiet !== true);
        commitImage(image, base, progress.part());
        if (options.d !== true && options.b === undefined) emptyImage(image);
        progress.end();
        if (options.quiet !== true) host.stdout.write("Image committed.\n");
      }),
    );
};

function findBase(image: DiskImage, name: string | undefined): DiskImage {
  let above = image;
  let found = image.backing;
  while (name !== undefined && found !== undefined && !isNamed(found.path, name, above.path)) {
    above = found;
    found = found.backing;
  }
  if (found === undefined) {
    throw new CommandFailed(
      1,
      name === undefined
        ? "Image does not have a backing file"
        : `Did not find '${name}' in the backing chain of '${image.path}'`,
    );
  }
  return found;
}

/** Whether `name` means the file: from here, or from beside the image above it. */
const isNamed = (path: string, name: string, above: string): boolean =>
  [resolve(name), resolve(dirname(above), name)].includes(resolve(path));
