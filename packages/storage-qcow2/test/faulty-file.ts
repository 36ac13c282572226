import { MemoryFile } from "../src/file/memory-file.ts";
import { ImageError } from "../src/image-error.ts";
import type { Random } from "./qemu.ts";

const SECTOR = 512;

/** A file whose host fails once, at the n-th thing that changes it, and says nothing of it afterwards, as Linux does. */
export class FaultyFile extends MemoryFile {
  /** Counts down with every change; the one that makes it 0 fails. */
  failsIn: number = Infinity;
  /** The same of reads. */
  readFailsIn: number = Infinity;
  /** What a write that fails may leave: nothing, whole sectors from its start, all of it. */
  random: Random | undefined;
  /** Writes behind it find no space. */
  limit: number = Infinity;
  faults = 0;

  override read(offset: number, into: Uint8Array): void {
    this.readFailsIn -= 1;
    if (this.readFailsIn === 0) throw this.#error("read", "input/output error");
    super.read(offset, into);
  }

  override write(offset: number, from: Uint8Array): void {
    const fails = this.#fails();
    if (fails || offset + from.length > this.limit) {
      const room = fails ? from.length : Math.max(0, this.limit - offset);
      const kept = Math.min(from.length, SECTOR * (this.random?.below(Math.floor(room / SECTOR) + 1) ?? 0));
      if (kept > 0) super.write(offset, from.subarray(0, kept));
      throw this.#error("write", fails ? "input/output error" : "no space left on device");
    }
    super.write(offset, from);
  }

  override punch(offset: number, length: number): boolean {
    if (this.#fails()) throw this.#error("fallocate", "input/output error");
    super.write(offset, new Uint8Array(length));
    return true;
  }

  override sync(): void {
    if (this.#fails()) throw this.#error("fdatasync", "input/output error");
  }

  #fails(): boolean {
    this.failsIn -= 1;
    return this.failsIn === 0;
  }

  #error(what: string, why: string): ImageError {
    this.faults += 1;
    return new ImageError(this.path, "host", `cannot ${what}: ${why}`);
  }
}
