import { chainExtents } from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, usingImage, withAccess, outputOption } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

interface MapOptions extends AccessOptions {
  readonly output: string;
  readonly startOffset?: string;
  readonly maxLength?: string;
}

export const registerMap: RegisterCommand = (img, host) => {
  withAccess(img.command("map"), { quiet: false })
    .description("say where the parts of a disk come from")
    .argument("<FILE>")
    .addOption(outputOption())
    .option("-s, --start-offset <OFFSET>", "from here")
    .option("-l, --max-length <LENGTH>", "this far")
    .action((path: string, options: MapOptions) =>
      usingImage(path, options, { readOnly: true }, (image) => {
        const start =
          options.startOffset === undefined ? 0 : parseSize(options.startOffset, "--start-offset");
        const length =
          options.maxLength === undefined ? image.size : parseSize(options.maxLength, "--max-length");
        const end = Math.min(image.size, start + length);
        const write = (text: string): void => void host.stdout.write(text);
        if (options.output === "json") {
          let first = true;
          for (const run of mergedForJson(chainExtents(image, start, end))) {
            write(
              `${first ? "[" : ",\n"}{ "start": ${run.start}, "length": ${run.length}, "depth": ${run.depth}, ` +
                `"present": ${run.isPresent}, "zero": ${run.isZero}, "data": ${run.isData}` +
                `${run.fileOffset === undefined ? "" : `, "offset": ${run.fileOffset}`}}`,
            );
            first = false;
          }
          write(first ? "[]\n" : "]\n");
          return;
        }
        const hex = (value: number): string => (value === 0 ? "0" : `0x${value.toString(16)}`).padEnd(16);
        write(`${"Offset".padEnd(16)}${"Length".padEnd(16)}${"Mapped to".padEnd(16)}File\n`);
        for (const run of chainExtents(image, start, end)) {
          if (!run.isData || run.isZero) continue;
          if (run.fileOffset === undefined) {
            throw new CommandFailed(1, "File contains external, encrypted or compressed clusters.");
          }
          write(
            `${hex(run.start)}${hex(run.length)}${hex(run.fileOffset)}${run.image.dataPath ?? run.image.path}\n`,
          );
        }
      }),
    );
};

type Run = ReturnType<typeof chainExtents> extends Generator<infer T> ? T : never;

/** Joins what the JSON form does not tell apart: compressed data and other data without an offset. */
function* mergedForJson(runs: Iterable<Run>): Generator<Run> {
  let current: Run | undefined;
  for (const run of runs) {
    if (
      current?.image === run.image &&
      current.isPresent === run.isPresent &&
      current.isZero === run.isZero &&
      current.isData === run.isData &&
      current.fileOffset === undefined &&
      run.fileOffset === undefined
    ) {
      current = { ...current, length: current.length + run.length };
    } else {
      if (current !== undefined) yield current;
      current = run;
    }
  }
  if (current !== undefined) yield current;
}
