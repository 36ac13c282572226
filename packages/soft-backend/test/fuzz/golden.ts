import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { type MemoryRun, type Outcome, Pool, startValue, type Vector } from "./vector.ts";

const MAGIC = "NBVEC1\n\0";
/** Changed memory beyond this many bytes is kept as a hash only. */
const MEMORY_LIMIT = 48;

/** A vector with what the processor made of it. `memoryHash` stands for memory changes too long to keep. */
export interface GoldenVector {
  readonly vector: Vector;
  readonly outcome: Outcome;
  readonly memoryHash: number | undefined;
}

/** FNV-1a over offsets and bytes of changed memory. */
export function hashMemory(runs: readonly MemoryRun[]): number {
  let hash = 0x811c9dc5;
  const step = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x01000193);
  };
  for (const { offset, bytes } of runs) {
    step(offset & 0xff);
    step(offset >> 8);
    for (const byte of bytes) step(byte);
  }
  return hash >>> 0;
}

class Bytes {
  readonly #out: number[] = [];
  u8(v: number): void {
    this.#out.push(v & 0xff);
  }
  u16(v: number): void {
    this.u8(v);
    this.u8(v >> 8);
  }
  u32(v: number): void {
    this.u16(v);
    this.u16(v >>> 16);
  }
  u64(v: bigint): void {
    this.u32(Number(v & 0xffffffffn));
    this.u32(Number(v >> 32n));
  }
  raw(v: Uint8Array): void {
    for (const b of v) this.#out.push(b);
  }
  finish(): Uint8Array {
    return Uint8Array.from(this.#out);
  }
}

/**
 * Packs vectors and outcomes: brotli over {magic, pool, u32 count} and per vector its inputs, then what differs
 * from them afterwards.
 */
export function packGolden(
  vectors: readonly Vector[],
  outcomes: readonly Outcome[],
  pool: BigUint64Array,
): Uint8Array {
  const out = new Bytes();
  out.raw(new TextEncoder().encode(MAGIC));
  for (const value of pool) out.u64(value);
  out.u32(vectors.length);
  vectors.forEach((v, n) => {
    const o = outcomes[n];
    if (o === undefined) throw new RangeError("fewer outcomes than vectors");
    out.u8(v.mode);
    out.u16(v.start);
    out.u8(v.code.length);
    out.raw(v.code);
    out.raw(v.registers);
    out.u32(v.flags);
    out.u8(v.image);
    out.u32(v.flagMask);
    out.u32(v.faultFlagMask);
    out.u8(o.trap);
    out.u32(o.error);
    out.u64(o.trap === 14 ? o.cr2 : 0n);
    out.u64(o.rip);
    out.u32(o.flags);
    let changed = 0;
    for (let i = 0; i < 16; i++) if (o.registers[i] !== startValue(v, pool, i)) changed |= 1 << i;
    out.u16(changed);
    for (let i = 0; i < 16; i++) if (changed & (1 << i)) out.u64(o.registers[i] ?? 0n);
    const total = o.memory.reduce((sum, run) => sum + run.bytes.length, 0);
    if (total > MEMORY_LIMIT || o.memory.length > 20) {
      out.u8(0xff);
      out.u32(hashMemory(o.memory));
    } else {
      out.u8(o.memory.length);
      for (const run of o.memory) {
        out.u16(run.offset);
        out.u8(run.bytes.length);
        out.raw(run.bytes);
      }
    }
  });
  const packed = out.finish();
  return brotliCompressSync(packed, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 10,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: packed.length,
    },
  });
}

export function unpackGolden(file: Uint8Array): {
  readonly pool: BigUint64Array;
  readonly vectors: readonly GoldenVector[];
} {
  const bytes = brotliDecompressSync(file);
  if (bytes.subarray(0, 8).toString() !== MAGIC) throw new Error("not a file of golden vectors of version 1");
  let at = 8;
  const u8 = (): number => bytes.readUInt8(at++);
  const u16 = (): number => {
    at += 2;
    return bytes.readUInt16LE(at - 2);
  };
  const u32 = (): number => {
    at += 4;
    return bytes.readUInt32LE(at - 4);
  };
  const u64 = (): bigint => {
    at += 8;
    return bytes.readBigUInt64LE(at - 8);
  };
  const raw = (n: number): Uint8Array => {
    at += n;
    return Uint8Array.from(bytes.subarray(at - n, at));
  };
  const pool = new BigUint64Array(Pool.SIZE);
  for (let i = 0; i < Pool.SIZE; i++) pool[i] = u64();
  const count = u32();
  const vectors = Array.from({ length: count }, (): GoldenVector => {
    const mode = u8() === 64 ? 64 : 32;
    const start = u16();
    const code = raw(u8());
    const vector: Vector = {
      mode,
      start,
      code,
      registers: raw(16),
      flags: u32(),
      image: u8(),
      flagMask: u32(),
      faultFlagMask: u32(),
    };
    const head = { trap: u8(), error: u32(), cr2: u64(), rip: u64(), flags: u32() };
    const changed = u16();
    const registers = new BigUint64Array(16);
    for (let i = 0; i < 16; i++) registers[i] = changed & (1 << i) ? u64() : startValue(vector, pool, i);
    const runs = u8();
    if (runs === 0xff) return { vector, outcome: { ...head, registers, memory: [] }, memoryHash: u32() };
    const memory = Array.from({ length: runs }, (): MemoryRun => ({ offset: u16(), bytes: raw(u8()) }));
    return { vector, outcome: { ...head, registers, memory }, memoryHash: undefined };
  });
  return { pool, vectors };
}
