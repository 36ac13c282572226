import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Version line of the qemu-img found, or undefined with a printed reason. */
export const qemuImg: string | undefined = (() => {
  const { status, stdout } = spawnSync("qemu-img", ["--version"], { encoding: "utf8" });
  if (status === 0) return stdout.split("\n")[0];
  process.stderr.write("storage-qcow2: qemu-img is not installed: tests that compare with it are skipped\n");
  return undefined;
})();

/** Seeds of the randomised tests: `NORTHBRIDGE_QCOW2_SEEDS=2000` runs as many, `1001-2000` those. */
export function seeds(usual: number): number[] {
  const [first = "", last] = (process.env["NORTHBRIDGE_QCOW2_SEEDS"] ?? String(usual)).split("-");
  const from = last === undefined ? 1 : Number(first);
  return Array.from({ length: Number(last ?? first) - from + 1 }, (_, index) => from + index);
}

export interface ToolResult {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export function qemu(tool: "qemu-img" | "qemu-io", ...args: readonly string[]): ToolResult {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8" });
  return { status, out: stdout, err: stderr };
}

/** Runs a tool while this process goes on, as one that talks to a server of ours must. */
export function runTool(tool: string, ...args: readonly string[]): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.on("error", reject);
    child.on("close", (status) => {
      resolve({ status, out, err });
    });
  });
}

/** True where the host has the tool; says so once where not. */
export function hasTool(tool: string): boolean {
  const found = spawnSync(tool, ["--version"]).error === undefined;
  if (!found)
    process.stderr.write(`storage-qcow2: ${tool} is not installed: tests that need it are skipped\n`);
  return found;
}

/** Runs `use` with a fresh directory and removes it. */
export async function inDirectory<T>(use: (directory: string) => T | Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-qcow2-"));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A seeded generator (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761) >>> 0;
  }

  /** An integer in `[0, below)`. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  pick<T>(from: readonly T[]): T {
    const found = from[this.below(from.length)];
    if (found === undefined) throw new Error("nothing to pick from");
    return found;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  /** Bytes that compress about as well as a file system's. */
  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (this.chance(6)) return bytes;
    const constant = 1 + this.below(255);
    for (let at = 0; at < length; at += 16) {
      bytes.fill(this.chance(3) ? this.below(256) : constant, at, Math.min(at + 16, length));
    }
    return bytes;
  }
}
