import { GPR_NAMES } from "../../src/cpu/registers.ts";
import { Random } from "./random.ts";

/** Linear addresses every executor maps: code is readable and executable, data and stack readable and writable. */
export const CODE = 0x10000000;
export const CODE_SIZE = 0x2000;
export const DATA = 0x20000000;
export const DATA_SIZE = 0x2000;
export const STACK = 0x30000000;
export const STACK_SIZE = 0x1000;
export const GS_BASE: number = DATA + 0x800;
/** Memory of one vector: the data pages, then the stack page. */
export const IMAGE_SIZE: number = DATA_SIZE + STACK_SIZE;
export const IMAGES = 16;

export const Flag = { CF: 1, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, DF: 0x400, OF: 0x800 } as const;
export const STATUS_FLAGS = 0x8d5;
/** What vectors compare: status flags, DF, NT and ID. */
export const COMPARED_FLAGS: number = STATUS_FLAGS | Flag.DF | 0x4000 | 0x200000;

/** One program and the state it starts from. Registers and memory are named by index to keep golden files small. */
export interface Vector {
  readonly mode: 64 | 32;
  /** Offset of the first instruction in the code pages. All other bytes there are INT3. */
  readonly start: number;
  readonly code: Uint8Array;
  /** 16 indices into the pool, in encoding order. */
  readonly registers: Uint8Array;
  readonly flags: number;
  readonly image: number;
  /** Flags that the architecture defines at the end, and after a fault. */
  readonly flagMask: number;
  readonly faultFlagMask: number;
}

/** Bytes that changed: offset into the image and the new bytes. */
export interface MemoryRun {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface Outcome {
  /** Vector of the exception that ended it: 3 where it ran to its end. */
  readonly trap: number;
  readonly error: number;
  /** Meaningful for trap 14. */
  readonly cr2: bigint;
  readonly rip: bigint;
  readonly flags: number;
  readonly registers: BigUint64Array;
  readonly memory: readonly MemoryRun[];
}

/** A vector that ran away: the executor's alarm ended it. */
const TIMEOUT_TRAP = 255;

/** First pool index of each kind of value. */
export const Pool = {
  SPECIAL: 0,
  SMALL: 64,
  DATA: 128,
  STACK: 176,
  CODE: 188,
  RANDOM: 192,
  SIZE: 256,
} as const;

const SPECIALS: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  5n,
  7n,
  8n,
  9n,
  15n,
  16n,
  17n,
  31n,
  32n,
  33n,
  63n,
  64n,
  65n,
  127n,
  128n,
  129n,
  255n,
  256n,
  0x7fffn,
  0x8000n,
  0x8001n,
  0xffffn,
  0x10000n,
  0x7fffffffn,
  0x80000000n,
  0x80000001n,
  0xffffffffn,
  0x100000000n,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0x8000000000000001n,
  0xffffffffffffffffn,
  0xfffffffffffffffen,
  0xffffffffffffff80n,
  0xffffffffffffff7fn,
  0xffffffffffff8000n,
  0xffffffff80000000n,
  0xffffffff7fffffffn,
  0xffffffff00000000n,
  0x5555555555555555n,
  0xaaaaaaaaaaaaaaaan,
  0x0123456789abcdefn,
  0x00000000deadbeefn,
  0x80n,
  0x8080808080808080n,
  0x7f7f7f7f7f7f7f7fn,
  0x0f0f0f0fn,
  0x99n,
  0x9an,
  0x100n,
  0xff00n,
  0xff01n,
  0x7f80n,
  10n,
  100n,
  1000n,
  12345678901n,
  6n,
  0x13n,
];

/** The 256 values registers start from. */
export function registerPool(seed: number): BigUint64Array {
  const random = new Random(seed);
  const pool = new BigUint64Array(Pool.SIZE);
  for (let i = 0; i < Pool.SIZE; i++) {
    if (i < Pool.SMALL) pool[i] = SPECIALS[i] ?? 0n;
    else if (i < Pool.DATA) pool[i] = BigInt.asUintN(64, BigInt(random.between(-700, 700)));
    else if (i < Pool.STACK)
      pool[i] = BigInt(DATA + random.pick([0xf80, 0x1000, 0x1080, 0x400, 0x1c00]) + random.below(128));
    else if (i < Pool.CODE) pool[i] = BigInt(STACK + 0x100 + 8 * random.below(0x1c0));
    else if (i < Pool.RANDOM) pool[i] = BigInt(CODE + random.below(CODE_SIZE));
    else pool[i] = random.u64() >> BigInt(random.pick([0, 0, 1, 8, 16, 32, 33, 40, 48]));
  }
  pool[Pool.STACK + 10] = BigInt(STACK + 4);
  pool[Pool.STACK + 11] = BigInt(STACK + STACK_SIZE - 3);
  return pool;
}

/** Memory image `index`: random, small and pointer-like words. Stack words hold no TF, NT or AC for POPF to load. */
export function memoryImage(index: number): Uint8Array {
  const random = new Random(1000 + index);
  const image = new Uint8Array(IMAGE_SIZE);
  const words = new BigUint64Array(image.buffer);
  for (let i = 0; i < words.length; i++) {
    const kind = random.below(10);
    const word =
      kind < 4
        ? random.u64()
        : kind < 7
          ? BigInt.asUintN(64, BigInt(random.between(-300, 300)))
          : kind < 8
            ? BigInt(CODE + random.below(CODE_SIZE))
            : kind < 9
              ? (SPECIALS[random.below(SPECIALS.length)] ?? 0n)
              : BigInt(random.u32());
    words[i] = i * 8 < DATA_SIZE ? word : word & ~0x44100n;
  }
  return image;
}

export const memoryImages = (): Uint8Array[] => Array.from({ length: IMAGES }, (_, i) => memoryImage(i));

/** Starting value of register `n`. */
export function startValue(vector: Vector, pool: BigUint64Array, n: number): bigint {
  const value = pool[vector.registers[n] ?? 0] ?? 0n;
  return vector.mode === 64 ? value : value & 0xffffffffn;
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/**
 * Differences between what the processor did and what the core did, one a line; empty where they agree.
 * `expected` decides which flags count.
 */
export function differences(vector: Vector, expected: Outcome, actual: Outcome): string[] {
  const out: string[] = [];
  if (expected.trap !== actual.trap)
    out.push(`trap ${actual.trap.toString()}, expected ${expected.trap.toString()}`);
  if (expected.rip !== actual.rip)
    out.push(`rip ${actual.rip.toString(16)}, expected ${expected.rip.toString(16)}`);
  const hasError = [8, 10, 11, 12, 13, 14, 17].includes(expected.trap);
  // Linux claims "protection" for user accesses to kernel addresses, whatever is mapped there.
  const errorMask = expected.trap === 14 && expected.cr2 >= 0x800000000000n ? ~1 : ~0;
  if (hasError && (expected.error ^ actual.error) & errorMask)
    out.push(`error code ${actual.error.toString(16)}, expected ${expected.error.toString(16)}`);
  if (expected.trap === 14 && expected.cr2 !== actual.cr2)
    out.push(`cr2 ${actual.cr2.toString(16)}, expected ${expected.cr2.toString(16)}`);
  const mask = expected.trap === 3 ? vector.flagMask : vector.faultFlagMask;
  if ((expected.flags ^ actual.flags) & mask) {
    out.push(
      `flags ${(actual.flags & mask).toString(16)}, expected ${(expected.flags & mask).toString(16)} (mask ${mask.toString(16)})`,
    );
  }
  const count = vector.mode === 64 ? 16 : 8;
  const width = vector.mode === 64 ? 0xffffffffffffffffn : 0xffffffffn;
  for (let i = 0; i < count; i++) {
    const want = (expected.registers[i] ?? 0n) & width;
    const got = (actual.registers[i] ?? 0n) & width;
    if (want !== got) out.push(`${GPR_NAMES[i] ?? ""} ${got.toString(16)}, expected ${want.toString(16)}`);
  }
  const wanted = expected.memory.map((r) => `${r.offset.toString(16)}:${hex(r.bytes)}`).join(" ");
  const found = actual.memory.map((r) => `${r.offset.toString(16)}:${hex(r.bytes)}`).join(" ");
  if (wanted !== found) out.push(`memory [${found.slice(0, 400)}], expected [${wanted.slice(0, 400)}]`);
  return out;
}

/**
 * Whether the outcome is one the core promises: not a vector that ran away, nor a fault by a segment's limit, which
 * the core does not check: outside 64-bit mode operands may cross 4 GiB.
 */
export function isPromised(vector: Vector, outcome: Outcome): boolean {
  if (outcome.trap === TIMEOUT_TRAP) return false;
  if (vector.mode === 64 || (outcome.trap !== 12 && outcome.trap !== 13)) return true;
  return outcome.trap === 13 && outcome.registers.every((r) => (r & 0xfffffff0n) !== 0xfffffff0n);
}

/** Everything needed to run a vector again. */
export function describeVector(vector: Vector, pool: BigUint64Array): string {
  const registers = GPR_NAMES.slice(0, vector.mode === 64 ? 16 : 8).map(
    (name, i) => `${name}=${startValue(vector, pool, i).toString(16)}`,
  );
  return `mode ${vector.mode.toString()} at ${(CODE + vector.start).toString(16)}: ${hex(vector.code)}\n  ${registers.join(" ")} flags=${vector.flags.toString(16)} image=${vector.image.toString()}`;
}

/** Runs of bytes in which `now` differs from `before`; a run never crosses from data to stack. */
export function memoryRuns(before: Uint8Array, now: Uint8Array): MemoryRun[] {
  const runs: MemoryRun[] = [];
  let i = 0;
  while (i < IMAGE_SIZE) {
    if (now[i] === before[i]) {
      i++;
      continue;
    }
    const limit = i < DATA_SIZE ? DATA_SIZE : IMAGE_SIZE;
    let end = i;
    while (end < limit && now[end] !== before[end]) end++;
    runs.push({ offset: i, bytes: now.slice(i, end) });
    i = end;
  }
  return runs;
}
