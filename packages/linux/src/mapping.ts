import { type Address, libc } from "./libc.ts";
import { ftruncate } from "./files.ts";
import { check, errnoName, SystemCallError } from "./system-call-error.ts";

export const PAGE_SIZE = 4096;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const WASM_PAGE = 65536;

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;

/** Seals of fcntl(2): what nobody may do to a memfd from then on. */
export const Seal = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8 } as const;

/** The part of WebAssembly that this package uses: its types come with the DOM's, which is not there. */
interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}
interface WebAssemblyHost {
  readonly WebAssembly: {
    readonly Memory: new (descriptor: {
      readonly initial: number;
      readonly maximum: number;
      readonly shared: true;
    }) => SharedMemory;
  };
}
const { WebAssembly } = globalThis as unknown as WebAssemblyHost;

/** An anonymous file of `length` zero bytes (memfd_create(2)), which may be sealed. */
export function createMemfd(name: string, length: number): number {
  const fd = check(
    libc().memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING),
    "memfd_create",
    `memory ${name}`,
  );
  ftruncate(fd, length);
  return fd;
}

export function addSeals(fd: number, seals: number): void {
  check(libc().fcntl(fd, F_ADD_SEALS, seals), "fcntl", `seals of fd ${fd}`);
}

function map(address: Address, length: number, flags: number, fd: number, what: string): Address {
  const mapped = BigInt(libc().mmap(address, length, PROT_READ_WRITE, flags, fd, 0));
  if (mapped === MAP_FAILED) throw new SystemCallError("mmap", errnoName(), what);
  return mapped;
}

/**
 * A file mapped where every thread of JavaScript sees it without a copy: over shared WebAssembly memory, which is
 * aligned to pages and never moves.
 */
export class SharedMapping {
  /** Give `buffer` to a worker to see the same bytes there. */
  readonly buffer: SharedArrayBuffer;
  readonly address: Address;
  /** Bytes of the file that are mapped, from its start. */
  readonly length: number;
  // Holds the memory that `address` points into.
  readonly #memory: SharedMemory;
  #isMapped = true;

  /** @param length bytes, a multiple of 4096. Throws `SystemCallError`. */
  constructor(fd: number, length: number, what: string) {
    const pages = Math.ceil(length / WASM_PAGE);
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = this.#memory.buffer;
    this.length = length;
    this.address = libc().address(new Uint8Array(this.buffer));
    map(this.address, length, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, what);
  }

  /** Lets go of the file. The bytes stay readable, as zeros: views of them may be anywhere. */
  unmap(): void {
    if (!this.#isMapped) return;
    this.#isMapped = false;
    map(
      this.address,
      this.length,
      MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE,
      -1,
      `${this.#memory.buffer.byteLength} bytes of shared memory`,
    );
  }
}
