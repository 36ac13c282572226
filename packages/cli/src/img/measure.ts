import { type DiskImage, measureQcow2, type Measurement } from "@northbridge/storage-qcow2";
import { Option } from "commander";
import { collect } from "../commands/validate.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { layoutOf, parseNewImage } from "./create-options.ts";
import { type AccessOptions, parseFormat, usingImage, withAccess, outputOption } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

interface MeasureOptions extends AccessOptions {
  readonly O: string;
  readonly o: readonly string[];
  readonly output: string;
  readonly size?: string;
  readonly l?: string;
}

export const registerMeasure: RegisterCommand = (img, host) => {
  withAccess(img.command("measure"), { quiet: false })
    .description("say how many bytes a new image would need")
    .argument("[FILE]")
    .addOption(new Option("-O <FMT>", "format of the new image").default("raw"))
    .option("-o <OPTIONS>", "options of the new image's format; may be repeated", collect, [])
    .option("-l <SNAPSHOT>", "of an internal snapshot")
    .option("--size <N>", "of a new image of this size")
    .addOption(outputOption())
    .action(async (file: string | undefined, options: MeasureOptions) => {
      if ((file === undefined) === (options.size === undefined)) {
        throw new CommandFailed(1, "Either --size N or one filename must be specified.");
      }
      const format = parseFormat(options.O, "-O") ?? "raw";
      const image = parseNewImage(format, options.o, { objects: options.object });
      const measure = (size: number, source: DiskImage | undefined): Measurement => {
        const sectors = Math.ceil(size / 512) * 512;
        if (format === "raw") return { required: sectors, fullyAllocated: sectors, bitmaps: undefined };
        return measureQcow2(layoutOf(image), sectors, source);
      };
      const snapshot = options.l?.replace(/^snapshot\.(?:id|name)=/, "");
      const found =
        file === undefined
          ? measure(parseSize(options.size ?? "", "--size"), undefined)
          : await usingImage(
              file,
              options,
              { readOnly: true, ...(snapshot === undefined ? {} : { snapshot }) },
              (source) => measure(source.size, source),
            );
      if (options.output === "json") {
        const json = {
          ...(found.bitmaps === undefined ? {} : { bitmaps: found.bitmaps }),
          required: found.required,
          "fully-allocated": found.fullyAllocated,
        };
        host.stdout.write(`${JSON.stringify(json, undefined, 4)}\n`);
        return;
      }
      host.stdout.write(`required size: ${found.required}\nfully allocated size: ${found.fullyAllocated}\n`);
      if (found.bitmaps !== undefined) host.stdout.write(`bitmaps size: ${found.bitmaps}\n`);
    });
};
