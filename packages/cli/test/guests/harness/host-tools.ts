import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const runFile = promisify(execFile);
const PLACES = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** Where a program of the host is; the name itself where it is not. */
export const hostTool = (name: string): string =>
  PLACES.map((place) => join(place, name)).find((path) => existsSync(path)) ?? name;

/** Those of the programs that this host lacks: why a test is skipped. */
export function missingTools(...names: readonly string[]): string | undefined {
  const missing = names.filter((name) => !existsSync(hostTool(name)));
  return missing.length === 0 ? undefined : `this host has no ${missing.join(", ")}`;
}

/** Standard output of a program of the host. Throws where it fails. */
export async function runTool(name: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await runFile(hostTool(name), args, { maxBuffer: 2 ** 26 });
  return stdout;
}
