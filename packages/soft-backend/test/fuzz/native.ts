import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { IMAGES, memoryImages, type MemoryRun, type Outcome, startValue, type Vector } from "./vector.ts";

/** The host's processor as an executor of vectors; undefined where no C compiler or no x86-64 is. */
export interface NativeExecutor {
  run(vectors: readonly Vector[], pool: BigUint64Array): Outcome[];
  close(): void;
}

export function nativeExecutor(): NativeExecutor | undefined {
  if (process.platform !== "linux" || process.arch !== "x64" || !existsSync("/usr/bin/gcc")) return undefined;
  const directory = mkdtempSync(join(tmpdir(), "northbridge-vectors-"));
  const program = join(directory, "int-vectors");
  const source = fileURLToPath(new URL("../native/int-vectors.c", import.meta.url));
  const built = spawnSync("/usr/bin/gcc", ["-O1", "-o", program, source], { encoding: "utf8" });
  const close = (): void => {
    rmSync(directory, { recursive: true, force: true });
  };
  if (built.status !== 0) {
    close();
    throw new Error(`${source} does not compile: ${built.stderr}`);
  }
  return {
    run(vectors, pool) {
      const result = spawnSync(program, { input: encode(vectors, pool), maxBuffer: 1 << 30 });
      if (result.status !== 0)
        throw new Error(
          `${program} failed (${String(result.signal ?? result.status)}): ${result.stderr.toString()}`,
        );
      return decode(result.stdout, vectors.length);
    },
    close,
  };
}

/** u32 images, the images; per vector {u8 mode, u8 image, u16 start, u16 length, u64 registers[16], u64 flags, code}. */
function encode(vectors: readonly Vector[], pool: BigUint64Array): Uint8Array {
  const images = memoryImages();
  const parts: Uint8Array[] = [new Uint8Array(new Uint32Array([IMAGES]).buffer), ...images];
  for (const v of vectors) {
    const record = new Uint8Array(6 + 136 + v.code.length);
    const view = new DataView(record.buffer);
    record[0] = v.mode;
    record[1] = v.image;
    view.setUint16(2, v.start, true);
    view.setUint16(4, v.code.length, true);
    for (let i = 0; i < 16; i++) view.setBigUint64(6 + 8 * i, startValue(v, pool, i), true);
    view.setBigUint64(134, BigInt(v.flags | 0x202), true);
    record.set(v.code, 142);
    parts.push(record);
  }
  return Buffer.concat(parts);
}

/** Per vector {u8 trap, u32 error, u64 cr2, u64 rip, u64 flags, u64 registers[16], runs {u16 offset, u16 length, bytes}, {0, 0}}. */
function decode(output: Uint8Array, count: number): Outcome[] {
  const view = new DataView(output.buffer, output.byteOffset, output.byteLength);
  const outcomes: Outcome[] = [];
  let at = 0;
  for (let n = 0; n < count; n++) {
    const registers = new BigUint64Array(16);
    for (let i = 0; i < 16; i++) registers[i] = view.getBigUint64(at + 29 + 8 * i, true);
    const head = {
      trap: view.getUint8(at),
      error: view.getUint32(at + 1, true),
      cr2: view.getBigUint64(at + 5, true),
      rip: view.getBigUint64(at + 13, true),
      flags: view.getUint32(at + 21, true),
      registers,
    };
    at += 29 + 128;
    const memory: MemoryRun[] = [];
    for (;;) {
      const offset = view.getUint16(at, true);
      const length = view.getUint16(at + 2, true);
      at += 4;
      if (length === 0) break;
      memory.push({ offset, bytes: output.slice(at, at + length) });
      at += length;
    }
    outcomes.push({ ...head, memory });
  }
  return outcomes;
}
