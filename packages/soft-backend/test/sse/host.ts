/** The host's CPU as oracle: `native/sse-vectors.c`, where there is a compiler and the CPU is an x86-64 with SSE4.2. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const binary = join(root, "generated/sse-vectors");

/** What the host lacks to be the oracle, or undefined. */
export function hostLacks(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "an x86-64 Linux host";
  if (spawnSync("gcc", ["--version"]).status !== 0) return "gcc";
  const cpuinfo = readFileSync("/proc/cpuinfo", "utf8");
  // What the manuals leave open differs between vendors; the core follows the one that recorded the golden vectors.
  if (!cpuinfo.includes("AuthenticAMD")) return "a CPU of the vendor of the golden vectors";
  const flags = /^flags.*$/m.exec(cpuinfo)?.[0].split(" ") ?? [];
  return ["sse4_2", "aes", "pclmulqdq"].find((flag) => !flags.includes(flag));
}

/** Compiles the harness. */
export function buildHarness(): void {
  mkdirSync(join(root, "generated"), { recursive: true });
  execFileSync("gcc", ["-O1", "-o", binary, join(root, "test/native/sse-vectors.c")]);
}

/** Executes cases on the host. */
export function executeOnHost(cases: Uint8Array): Uint8Array {
  const result = spawnSync(binary, { input: cases, maxBuffer: cases.length + 1024 });
  if (result.status !== 0 || result.stdout.length !== cases.length) {
    throw new Error(`the harness ended with ${result.signal ?? result.status}: ${result.stderr.toString()}`);
  }
  return new Uint8Array(result.stdout);
}
