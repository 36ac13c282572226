import { type CheckReport, checkQcow2, NodeFile, probeFormat, type Repair } from "@northbridge/storage-qcow2";
import { Option } from "commander";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, namedImage, withAccess, outputOption } from "./image-access.ts";
import { roundHalfEven } from "./sizes.ts";

/** Exit codes of `qemu-img check`. */
const CheckExit = { CLEAN: 0, FAILED: 1, CORRUPT: 2, LEAKS: 3, NOT_SUPPORTED: 63 } as const;

interface CheckOptions extends AccessOptions {
  readonly output: string;
  readonly r?: Exclude<Repair, "none">;
}

export const registerCheck: RegisterCommand = (img, host, exit) => {
  withAccess(img.command("check"))
    .description("check the tables and refcounts of an image: exits 0 when clean, 2 corrupt, 3 with leaks")
    .argument("<FILE>")
    .addOption(outputOption())
    .addOption(new Option("-r <WHAT>", "repair leaks, or all").choices(["leaks", "all"]))
    .action((text: string, options: CheckOptions) => {
      const { path, format } = namedImage(text, options);
      const file = NodeFile.open(path, {
        readOnly: options.r === undefined,
        sharing: options.forceShare === true ? "anything" : "readers",
      });
      let report: CheckReport;
      try {
        if ((format ?? probeFormat(file)) !== "qcow2") {
          throw new CommandFailed(CheckExit.NOT_SUPPORTED, "This image format does not support checks");
        }
        report = checkQcow2(file, options.r ?? "none");
      } finally {
        file.close();
      }
      if (options.output === "json")
        host.stdout.write(`${JSON.stringify(toJson(path, report), undefined, 4)}\n`);
      else {
        for (const message of report.messages) host.stderr.write(`${message}\n`);
        if (options.quiet !== true) host.stdout.write(toText(report));
      }
      if (report.checkErrors > 0) exit(CheckExit.FAILED);
      else if (report.corruptions > 0) exit(CheckExit.CORRUPT);
      else if (report.leaks > 0) exit(CheckExit.LEAKS);
    });
};

function toJson(path: string, report: CheckReport): Record<string, unknown> {
  const unlessZero = (name: string, value: number): Record<string, number> =>
    value === 0 ? {} : { [name]: value };
  return {
    "image-end-offset": report.imageEndOffset,
    ...unlessZero("total-clusters", report.totalClusters),
    "check-errors": report.checkErrors,
    ...unlessZero("corruptions", report.corruptions),
    ...unlessZero("leaks", report.leaks),
    ...unlessZero("corruptions-fixed", report.corruptionsFixed),
    ...unlessZero("leaks-fixed", report.leaksFixed),
    ...unlessZero("allocated-clusters", report.allocatedClusters),
    ...unlessZero("fragmented-clusters", report.fragmentedClusters),
    ...unlessZero("compressed-clusters", report.compressedClusters),
    filename: path,
    format: "qcow2",
  };
}

function toText(report: CheckReport): string {
  const parts: string[] = [];
  if (report.corruptionsFixed > 0 || report.leaksFixed > 0) {
    parts.push(
      "The following inconsistencies were found and repaired:\n\n" +
        `    ${report.leaksFixed} leaked clusters\n    ${report.corruptionsFixed} corruptions\n\n` +
        "Double checking the fixed image now...\n",
    );
  }
  const isClean = report.corruptions === 0 && report.leaks === 0 && report.checkErrors === 0;
  if (isClean) parts.push("No errors were found on the image.\n");
  if (report.corruptions > 0) {
    parts.push(
      `\n${report.corruptions} errors were found on the image.\n` +
        "Data may be corrupted, or further writes to the image may corrupt it.\n",
    );
  }
  if (report.leaks > 0) {
    parts.push(
      `\n${report.leaks} leaked clusters were found on the image.\n` +
        "This means waste of disk space, but no harm to data.\n",
    );
  }
  if (report.checkErrors > 0) {
    parts.push(`\n${report.checkErrors} internal errors have occurred during the check.\n`);
  }
  if (report.totalClusters > 0 && report.allocatedClusters > 0) {
    parts.push(
      `${report.allocatedClusters}/${report.totalClusters} = ` +
        `${percent(report.allocatedClusters, report.totalClusters)}% allocated, ` +
        `${percent(report.fragmentedClusters, report.allocatedClusters)}% fragmented, ` +
        `${percent(report.compressedClusters, report.allocatedClusters)}% compressed clusters\n`,
    );
  }
  if (report.imageEndOffset > 0) parts.push(`Image end offset: ${report.imageEndOffset}\n`);
  return parts.join("");
}

const percent = (part: number, whole: number): string => roundHalfEven((part * 100) / whole, 2).toFixed(2);
