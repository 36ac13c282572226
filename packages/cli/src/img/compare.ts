import { compareImages } from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, openAs, parseFormat, withAccess } from "./image-access.ts";
import { ProgressLine } from "./progress.ts";

/** Exit codes of `qemu-img compare`; greater ones mean that it could not compare. */
const CompareExit = { DIFFERENT: 1, FAILED: 2 } as const;

interface CompareOptions extends AccessOptions {
  readonly F?: string;
  readonly p?: boolean;
  readonly s?: boolean;
}

export const registerCompare: RegisterCommand = (img, host, exit) => {
  withAccess(img.command("compare"))
    .description("compare two disks: exits 0 when the same, 1 when not, 2 when it could not tell")
    .argument("<FILE1>")
    .argument("<FILE2>")
    .option("-F <FMT>", "format of the second image")
    .option("-p", "show progress")
    .option("-s", "sizes and what is allocated must be the same too")
    .action((first: string, second: string, options: CompareOptions) => {
      try {
        const say = (line: string): void => {
          if (options.quiet !== true) host.stdout.write(`${line}\n`);
        };
        const one = openAs(first, options, { readOnly: true });
        const format = parseFormat(options.F, "-F");
        const { f: _, ...shared } = options;
        const two = openAs(second, shared, { readOnly: true, ...(format === undefined ? {} : { format }) });
        const strict = options.s === true;
        const progress = new ProgressLine(host, options.p === true && options.quiet !== true);
        const difference = compareImages(one, two, strict, {
          onProgress: progress.part(),
          onLonger: () => say("Warning: Image size mismatch!"),
        });
        progress.end();
        one.closeNow();
        two.closeNow();
        if (difference === undefined) say("Images are identical.");
        else {
          exit(CompareExit.DIFFERENT);
          if (difference.kind === "size") say("Strict mode: Image size mismatch!");
          else if (difference.kind === "content") say(`Content mismatch at offset ${difference.offset}!`);
          else say(`Strict mode: Offset ${difference.offset} block status mismatch!`);
        }
      } catch (error) {
        throw new CommandFailed(CompareExit.FAILED, error instanceof Error ? error.message : String(error));
      }
    });
};
