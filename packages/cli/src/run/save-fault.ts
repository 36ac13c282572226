import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DeviceFault } from "@northbridge/core/contracts";

const DIRECTORY = join(".northbridge", "faults");

/**
 * Saves what a guest last did to a device that broke its contract, with the stack of what it threw.
 * @param replay how a person gets all of it
 * @returns the file; undefined where the failure is no device's, or nothing can be written
 */
export async function saveFault(failure: unknown, replay: string | undefined): Promise<string | undefined> {
  if (!(failure instanceof DeviceFault)) return undefined;
  const cause = failure.cause instanceof Error ? (failure.cause.stack ?? failure.cause.message) : "";
  const trace = replay === undefined ? [] : ["", "all of them, to replay:", replay];
  const text = [failure.message, cause, "", "last accesses:", ...failure.accesses, ...trace, ""].join("\n");
  const file = join(DIRECTORY, `${failure.device.replaceAll(/[^\w.-]/g, "_")}-${process.pid}.txt`);
  try {
    await mkdir(DIRECTORY, { recursive: true });
    await writeFile(file, text);
    return file;
  } catch {
    return undefined;
  }
}
