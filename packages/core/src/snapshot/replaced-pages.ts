import { setImmediate as nextTurn } from "node:timers/promises";
import type { MemorySlot, VirtualMachine } from "../contracts/index.ts";
import { PAGE_BYTES } from "./manifest.ts";

/** Cleared in one turn of the event loop. */
const ZEROS = new Uint8Array(256 * PAGE_BYTES);

/**
 * The pages of memory that held something before: a device's own, which may be a file of the host's. A page that is to
 * hold what it holds is not written, and all that were can be put back.
 */
export class ReplacedPages {
  readonly #slot: MemorySlot;
  readonly #bytes: Buffer;
  readonly #vm: Pick<VirtualMachine, "memoryWritten">;
  readonly #before: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  constructor(slot: MemorySlot, vm: Pick<VirtualMachine, "memoryWritten">) {
    const { buffer, byteOffset, length } = slot.bytes;
    this.#slot = slot;
    this.#bytes = Buffer.from(buffer, byteOffset, length);
    this.#vm = vm;
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** Whole pages, from a page of the memory on. */
  replace(offset: number, content: Uint8Array): void {
    const isSame = (at: number): boolean =>
      this.#bytes.compare(content, at, at + PAGE_BYTES, offset + at, offset + at + PAGE_BYTES) === 0;
    for (let at = 0; at < content.length; ) {
      if (isSame(at)) {
        at += PAGE_BYTES;
        continue;
      }
      let end = at + PAGE_BYTES;
      while (end < content.length && !isSame(end)) end += PAGE_BYTES;
      const bytes = Uint8Array.from(this.#bytes.subarray(offset + at, offset + end));
      this.#before.push({ offset: offset + at, bytes });
      this.#write(offset + at, content.subarray(at, end));
      at = end;
    }
  }

  /** Zeros from one page up to another. */
  async clear(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += ZEROS.length) {
      this.replace(at, ZEROS.subarray(0, Math.min(ZEROS.length, to - at)));
      await nextTurn();
    }
  }

  /** The memory is as it was found. */
  putBack(): void {
    for (const { offset, bytes } of this.#before.splice(0).reverse()) this.#write(offset, bytes);
  }

  #write(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
    this.#vm.memoryWritten(this.#slot.gpa + offset, bytes.length);
  }
}
