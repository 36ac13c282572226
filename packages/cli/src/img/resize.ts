import { Qcow2Image, RawImage } from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { parsePreallocation } from "./create-options.ts";
import { type AccessOptions, usingImage, withAccess } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

interface ResizeOptions extends AccessOptions {
  readonly shrink?: boolean;
  readonly preallocation: string;
}

export const registerResize: RegisterCommand = (img, host) => {
  withAccess(img.command("resize"))
    .description("change the size of a disk")
    .argument("<FILE>")
    .argument("<SIZE>", "bytes, or with K, M, G, T; with + or - before it, a difference")
    .option("--shrink", "let it become smaller: what lies behind the new end is lost")
    .option("--preallocation <MODE>", "of what is new: off, metadata, falloc or full", "off")
    // -1G is a size here.
    .allowUnknownOption()
    .action((path: string, sizeText: string, options: ResizeOptions) => {
      const preallocation = parsePreallocation(options.preallocation, "--preallocation");
      return usingImage(path, options, {}, (image) => {
        const sign = sizeText.startsWith("+") ? 1 : sizeText.startsWith("-") ? -1 : 0;
        const value = parseSize(sign === 0 ? sizeText : sizeText.slice(1), "SIZE");
        const size = Math.ceil((sign === 0 ? value : image.size + sign * value) / 512) * 512;
        if (size <= 0) throw new CommandFailed(1, "New image size must be positive");
        if (size < image.size && options.shrink !== true) {
          throw new CommandFailed(1, "Use the --shrink option to perform a shrink operation.");
        }
        if (!(image instanceof Qcow2Image || image instanceof RawImage)) {
          throw new CommandFailed(1, `${path}: the image cannot change its size`);
        }
        const before = image instanceof RawImage ? image.fileSize() : image.size;
        if (preallocation !== "off" && size < image.size) {
          throw new CommandFailed(1, "Preallocation can only be used for growing images");
        }
        image.resize(size);
        try {
          image.preallocate(before, preallocation);
        } catch (error) {
          // A disk that has no room for what is new keeps its size.
          image.resize(before);
          throw error;
        }
        if (options.quiet !== true) host.stdout.write("Image resized.\n");
      });
    });
};
