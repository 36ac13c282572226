/**
 * Times image operations beside qemu-img in the same run: `node --conditions=northbridge-source scripts/bench.ts`, from
 * this package's directory. Ours run in this process; of qemu-img the whole process counts, which is a few
 * milliseconds more. Reports, and gates nothing.
 */
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  copyImage,
  type CopyOptions,
  createQcow2,
  NodeFile,
  openImage,
  type Qcow2CreateOptions,
} from "../src/index.ts";

const MIB = 2 ** 20;
const directory = mkdtempSync(join(tmpdir(), "northbridge-bench-"));
const at = (name: string): string => join(directory, name);

/** Text-like, text-like, random, hole, by MiB. */
function makeSource(path: string, mib: number): void {
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
  const words = Array.from({ length: 4000 }, () => next().toString(36));
  const fd = openSync(path, "w");
  for (let index = 0; index < mib; index += 1) {
    if (index % 4 === 3) continue;
    const bytes = Buffer.alloc(MIB);
    if (index % 4 === 2) for (let byte = 0; byte < MIB; byte += 4) bytes.writeUInt32LE(next(), byte);
    else for (let byte = 0; byte < MIB - 16; ) byte += bytes.write(`${words[next() % 4000] ?? ""} `, byte);
    writeSync(fd, bytes, 0, MIB, index * MIB);
  }
  ftruncateSync(fd, mib * MIB);
  closeSync(fd);
}

/** Seconds by the clock, and of all processors: on a host that does other things too, only the second compares. */
interface Cost {
  readonly wall: number;
  readonly cpu: number;
}

function qemu(...args: readonly string[]): Cost {
  const begun = performance.now();
  const script = "TIMEFORMAT='%U %S'; time qemu-img \"$@\" >/dev/null";
  const { status, stderr } = spawnSync("bash", ["-c", script, "bash", ...args], { encoding: "utf8" });
  if (status !== 0) throw new Error(`qemu-img ${args.join(" ")}: ${stderr}`);
  const [user = 0, system = 0] = stderr.trim().split(/\s+/).slice(-2).map(Number);
  return { wall: (performance.now() - begun) / 1000, cpu: user + system };
}

async function ours(run: () => Promise<void>): Promise<Cost> {
  const before = process.cpuUsage();
  const begun = performance.now();
  await run();
  const { user, system } = process.cpuUsage(before);
  return { wall: (performance.now() - begun) / 1000, cpu: (user + system) / 1e6 };
}

async function convert(
  from: string,
  to: string,
  layout: Partial<Qcow2CreateOptions> | "raw",
  options: CopyOptions = {},
): Promise<void> {
  const source = openImage(from, { format: from.endsWith("raw") ? "raw" : "qcow2", readOnly: true });
  const file = NodeFile.open(to, { create: true });
  if (layout === "raw") file.truncate(source.size);
  else createQcow2(file, { size: source.size, ...layout });
  file.close();
  const target = openImage(to, { format: layout === "raw" ? "raw" : "qcow2", unsafe: true });
  await copyImage(source, target, { targetIsZero: true, ...options });
  target.closeNow();
  source.closeNow();
}

async function best(times: number, run: () => Cost | Promise<Cost>): Promise<Cost> {
  let least: Cost = { wall: Infinity, cpu: Infinity };
  for (let time = 0; time < times; time += 1) {
    const { wall, cpu } = await run();
    least = { wall: Math.min(wall, least.wall), cpu: Math.min(cpu, least.cpu) };
  }
  return least;
}

function report(what: string, theirs: Cost, mine: Cost, target: string): void {
  const one = (name: string, a: number, b: number): string =>
    `${name} ${a.toFixed(2)} s and ${b.toFixed(2)} s: ${(a / b).toFixed(2)}x`;
  process.stdout.write(
    `${what.padEnd(33)} qemu-img and ours, ${one("wall", theirs.wall, mine.wall)}, ` +
      `${one("processor", theirs.cpu, mine.cpu)} (target ${target})\n`,
  );
}

/** `count` reads of 4 KiB, `depth` of them at the same time, scattered over the disk. */
async function reads(path: string, count: number, depth: number): Promise<void> {
  const image = openImage(path, { format: "qcow2", readOnly: true });
  let sent = 0;
  let offset = 0;
  const one = async (): Promise<void> => {
    const into = [new Uint8Array(4096)];
    while (sent < count) {
      sent += 1;
      const here = offset;
      offset = (offset + 1052672) % (image.size - 4096);
      await image.read(here - (here % 4096), into);
    }
  };
  await Promise.all(Array.from({ length: depth }, one));
  image.closeNow();
}

try {
  makeSource(at("source.raw"), 1024);
  makeSource(at("small.raw"), 128);
  const [raw, small, theirs, own] = [at("source.raw"), at("small.raw"), at("theirs.qcow2"), at("ours.qcow2")];
  const toQcow2 = ["convert", "-f", "raw", "-O", "qcow2"];
  report(
    "raw to qcow2, 1 GiB",
    await best(3, () => qemu(...toQcow2, raw, theirs)),
    await best(3, () => ours(() => convert(raw, own, {}))),
    "0.7",
  );
  report(
    "qcow2 to raw, 1 GiB",
    await best(3, () => qemu("convert", "-f", "qcow2", "-O", "raw", theirs, at("theirs.out"))),
    await best(3, () => ours(() => convert(theirs, at("ours.out"), "raw"))),
    "0.7",
  );
  const zlib = await ours(() => convert(small, at("ours.z"), {}, { compress: true }));
  report("zlib, 128 MiB", qemu(...toQcow2, "-c", small, at("theirs.z")), zlib, "1.2");
  report(
    "zlib, qemu-img -W -m 16",
    qemu(...toQcow2, "-c", "-W", "-m", "16", small, at("theirs.z")),
    zlib,
    "none",
  );
  report(
    "zstd, 128 MiB",
    qemu(...toQcow2, "-c", "-o", "compression_type=zstd", small, at("theirs.zs")),
    await ours(() => convert(small, at("ours.zs"), { compressionType: "zstd" }, { compress: true })),
    "0.5",
  );
  for (const depth of [1, 32]) {
    const args = ["-f", "qcow2", "-c", "100000", "-d", String(depth), "-s", "4096", "-S", "1052672", theirs];
    report(
      `100000 reads of 4 KiB, depth ${depth}`,
      await best(2, () => qemu("bench", ...args)),
      await best(2, () => ours(() => reads(theirs, 100_000, depth))),
      "1.0",
    );
  }
  qemu("create", "-q", "-f", "qcow2", at("big.qcow2"), "1T");
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  const begun = performance.now();
  const big = openImage(at("big.qcow2"), { format: "qcow2" });
  const ms = performance.now() - begun;
  const opened = (process.memoryUsage().rss - before) / MIB;
  for (let write = 0; write < 2000; write += 1) {
    big.writeAt(((write * 7919) % 2 ** 20) * MIB, new Uint8Array(4096).fill(1));
  }
  big.flushNow();
  globalThis.gc?.();
  const used = (process.memoryUsage().rss - before) / MIB;
  big.closeNow();
  process.stdout.write(
    `1 TiB sparse image: opens in ${ms.toFixed(1)} ms (target 20) for ${opened.toFixed(0)} MiB (target 40), ` +
      `${used.toFixed(0)} MiB after 2000 scattered writes\n`,
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}
