import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterAll } from "vitest";
import { CliHarness } from "./cli-harness.ts";

/** QEMU's tools are there; says once where not. */
export const hasQemu: boolean = (() => {
  const found = spawnSync("qemu-img", ["--version"]).status === 0;
  if (!found) process.stderr.write("cli: qemu-img is not installed: img commands are not compared with it\n");
  return found;
})();

/** A directory for the tests of one file. */
export function scratchDirectory(): string {
  const root = mkdtempSync(join(tmpdir(), "northbridge-img-"));
  afterAll(() => {
    rmSync(root, { recursive: true, force: true });
  });
  return root;
}

/** How a command ended. */
export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** QEMU's command, run in `directory`. */
export function qemu(directory: string, tool: "qemu-img" | "qemu-io", ...args: readonly string[]): Outcome {
  const { status, stdout, stderr } = spawnSync(tool, args, { cwd: directory, encoding: "utf8" });
  return { code: status, out: stdout, err: stderr };
}

/** Our command, as if run in `directory`: the names of images are relative to it. */
export async function ours(directory: string, ...args: readonly string[]): Promise<Outcome> {
  const before = process.cwd();
  process.chdir(directory);
  try {
    return await new CliHarness(new FakeHypervisor([])).run("img", ...args);
  } finally {
    process.chdir(before);
  }
}
