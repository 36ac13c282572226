import { writeSync } from "node:fs";
import { types } from "node:util";
import { type Address, libc } from "./libc.ts";
import { close, ftruncate } from "./files.ts";
import { check, errnoName, SystemCallError } from "./system-call-error.ts";

export const PAGE_SIZE = 4096;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTNEED = 4;
const MADV_REMOVE = 9;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const WASM_PAGE = 65536;
/** Pages of a WebAssembly memory that has 32-bit addresses, and of any that V8 makes. */
const MOST_WASM32_PAGES = 65536;
const MOST_WASM64_PAGES = 262144;
/** The most bytes of one `SharedMapping`. */
export const MOST_MAPPED_BYTES: number = MOST_WASM64_PAGES * WASM_PAGE;

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/** Seals of fcntl(2): what nobody may do to a memfd from then on. */
export const Seal = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8 } as const;

/** The part of WebAssembly that this package uses: its types come with the DOM's, which is not there. */
interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}
interface WebAssemblyHost {
  readonly WebAssembly: {
    readonly Memory: new (descriptor: {
      readonly address?: "i64";
      readonly initial: number | bigint;
      readonly maximum: number | bigint;
      readonly shared: true;
    }) => SharedMemory;
  };
}
const { WebAssembly } = globalThis as unknown as WebAssemblyHost;

/** Where shared memory lies, which never moves: asking takes longer than copying a small frame. */
const bases = new WeakMap<ArrayBufferLike, number>();

/** Where bytes of shared memory lie in this process, for as long as somebody holds them. */
export function addressOf(bytes: Uint8Array): number {
  const { buffer, byteOffset } = bytes;
  let base = bases.get(buffer);
  if (base === undefined) {
    base = Number(libc().address(new Uint8Array(buffer)));
    bases.set(buffer, base);
  }
  return base + byteOffset;
}

/** An anonymous file of `length` zero bytes (memfd_create(2)), which may be sealed. */
export function createMemfd(name: string, length: number): number {
  const fd = check(
    libc().memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING),
    "memfd_create",
    `memory ${name}`,
  );
  try {
    ftruncate(fd, length);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

export function addSeals(fd: number, seals: number): void {
  check(libc().fcntl(fd, F_ADD_SEALS, seals), "fcntl", `seals of fd ${fd}`);
}

/** Seals that the file has; 0 where it is of a kind that has none. */
export function sealsOf(fd: number): number {
  return Math.max(libc().fcntl(fd, F_GET_SEALS, 0), 0);
}

interface MapRequest {
  readonly address: Address;
  readonly length: number;
  readonly flags: number;
  readonly fd: number;
  readonly offset: number;
}

function map({ address, length, flags, fd, offset }: MapRequest, what: string): Address {
  const mapped = BigInt(libc().mmap(address, length, PROT_READ_WRITE, flags, fd, offset));
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
  /** Bytes of the file that are mapped. */
  readonly length: number;
  // Holds the memory that `address` points into.
  readonly #memory: SharedMemory;
  #isMapped = true;

  /**
   * Throws `SystemCallError`, and `ENOMEM` also beyond `MOST_MAPPED_BYTES`.
   * @param length bytes, a multiple of 4096
   * @param offset of the first byte in the file, a multiple of 4096
   */
  constructor(fd: number, length: number, what: string, offset = 0) {
    const pages = Math.ceil(length / WASM_PAGE);
    if (pages > MOST_WASM64_PAGES) throw new SystemCallError("mmap", "ENOMEM", what);
    this.#memory = new WebAssembly.Memory(
      pages <= MOST_WASM32_PAGES
        ? { initial: pages, maximum: pages, shared: true }
        : { address: "i64", initial: BigInt(pages), maximum: BigInt(pages), shared: true },
    );
    this.buffer = this.#memory.buffer;
    this.length = length;
    this.address = libc().address(new Uint8Array(this.buffer));
    const flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
    map({ address: this.address, length, flags, fd, offset }, what);
  }

  /** Lets go of the file. The bytes stay readable, as zeros: views of them may be anywhere. */
  unmap(): void {
    if (!this.#isMapped) return;
    this.#isMapped = false;
    const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
    map(
      { address: this.address, length: this.length, flags, fd: -1, offset: 0 },
      `${this.#memory.buffer.byteLength} bytes of shared memory`,
    );
  }
}

/**
 * Puts a file under memory that is there already: what the bytes hold is copied into the file, and from then on every
 * view of them is a view of the file. Throws `SystemCallError`, and `EINVAL` where the bytes do not lie on whole pages.
 * @param bytes of shared WebAssembly memory: no other memory of JavaScript may be mapped over
 */
export function mapUnder(bytes: Uint8Array, fd: number, what: string): void {
  wholePages(bytes, what);
  copyIn(bytes, fd);
  mapOver(bytes, fd, what);
}

/** As `mapUnder`, and the file stays what it is: what the bytes held is gone. `EINVAL` also for memory that is not shared. */
export function mapOver(bytes: Uint8Array, fd: number, what: string): void {
  const address = wholePages(bytes, what);
  if (!types.isSharedArrayBuffer(bytes.buffer))
    throw new SystemCallError("mmap", "EINVAL", `${what}: not shared memory`); // an allocator's, which gives it to others
  map({ address, length: bytes.length, flags: MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, offset: 0 }, what);
}

/**
 * Gives whole pages back to the system: they take no memory, and read as zeros, until they are written. Of a shared file
 * its storage goes, for all who map it. Throws `SystemCallError`.
 */
export function discardPages(bytes: Uint8Array): void {
  const address = wholePages(bytes, "discarded pages");
  if (libc().madvise(address, bytes.length, MADV_REMOVE) === 0) return;
  if (errnoName() !== "EINVAL") throw new SystemCallError("madvise", errnoName(), "discarded pages");
  check(libc().madvise(address, bytes.length, MADV_DONTNEED), "madvise", "discarded pages"); // no shared file
}

function wholePages(bytes: Uint8Array, what: string): Address {
  const address = libc().address(bytes);
  if (address % BigInt(PAGE_SIZE) !== 0n || bytes.length % PAGE_SIZE !== 0) {
    throw new SystemCallError("mmap", "EINVAL", `${what}: not whole pages of memory`);
  }
  return address;
}

/** Writes the bytes to the start of the file, leaving holes where there are only zeros. */
function copyIn(bytes: Uint8Array, fd: number): void {
  for (let at = 0; at < bytes.length; at += PAGE_SIZE) {
    const page = bytes.subarray(at, at + PAGE_SIZE);
    if (page.some((byte) => byte !== 0)) writeSync(fd, page, 0, PAGE_SIZE, at);
  }
}
