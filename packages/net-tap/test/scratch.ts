import { execFileSync } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A directory for one test's files; gone with its scope. */
export const scratch = (): Promise<AsyncDisposable & { readonly path: string }> =>
  mkdtempDisposable(join(tmpdir(), "northbridge-net-"));

/** Whether this host has a program. */
export function has(program: string): boolean {
  try {
    execFileSync("which", [program], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
