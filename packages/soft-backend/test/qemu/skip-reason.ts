import { existsSync } from "node:fs";

/** Why tests against QEMU do not run, as the end of their name; undefined where they do. */
export function skipReason(qemu: string): string | undefined {
  if (process.env["NORTHBRIDGE_QEMU"] === undefined) return " (skipped: NORTHBRIDGE_QEMU is not set)";
  return existsSync(qemu) ? undefined : ` (skipped: there is no ${qemu})`;
}
