import { fstatSync } from "node:fs";
import { PAGE_SIZE, SharedMapping } from "@northbridge/linux";
import { LOG_PAGE } from "../protocol/spec.ts";

/** The bitmap of written pages that a front end shares while it migrates its guest (vhost-user: Migration). */
export class DirtyLog {
  /** Whether the front end has asked for it (`LOG_ALL`). */
  isOn = false;
  #mapping: SharedMapping | undefined;
  #bits: Uint8Array | undefined;

  /** Takes a new bitmap. False where it is not inside of its file. */
  share(fd: number, size: number, offset: number): boolean {
    const file = fstatSync(fd);
    if (size === 0 || offset % PAGE_SIZE !== 0 || !file.isFile() || offset + size > file.size) return false;
    const length = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    let mapping: SharedMapping;
    try {
      mapping = new SharedMapping(fd, length, "dirty log", offset);
    } catch {
      return false;
    }
    this.#mapping?.unmap();
    this.#mapping = mapping;
    this.#bits = new Uint8Array(mapping.buffer, 0, size);
    return true;
  }

  mark(gpa: number, length: number): void {
    const bits = this.#bits;
    if (!this.isOn || bits === undefined || length === 0) return;
    const last = Math.floor((gpa + length - 1) / LOG_PAGE);
    for (let page = Math.floor(gpa / LOG_PAGE); page <= last; page++) {
      const at = Math.floor(page / 8);
      if (at < bits.length) Atomics.or(bits, at, 1 << (page % 8));
    }
  }

  close(): void {
    this.isOn = false;
    this.#mapping?.unmap();
    this.#mapping = undefined;
    this.#bits = undefined;
  }
}
