/** The host's CPU as oracle: the generators in `../native`, where there is gcc and the CPU is an x86-64. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

/** The host can be the oracle. */
export function isHostUsable(): boolean {
  return (
    process.platform === "linux" &&
    process.arch === "x64" &&
    spawnSync("gcc", ["--version"]).status === 0 &&
    /^flags.*\bsse4_1\b/m.test(spawnSync("cat", ["/proc/cpuinfo"]).stdout.toString())
  );
}

/** Compiles `native/<name>.c` and runs it: its standard output. */
export function runNative(name: string, ...args: string[]): Uint8Array {
  const binary = join(root, `generated/${name}-${process.pid}`);
  mkdirSync(join(root, "generated"), { recursive: true });
  execFileSync("gcc", ["-O1", "-o", binary, join(root, `test/native/${name}.c`)]);
  try {
    return new Uint8Array(execFileSync(binary, args, { maxBuffer: 1 << 28 }));
  } finally {
    rmSync(binary);
  }
}
