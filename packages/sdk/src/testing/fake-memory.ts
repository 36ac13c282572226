import type { GuestMemory, MemorySlot } from "@northbridge/core/contracts";

/** One slot of guest RAM, and a record of the ranges that devices reported as written. */
export class FakeMemory implements GuestMemory {
  readonly slots: readonly MemorySlot[];
  readonly writes: { readonly gpa: number; readonly length: number }[] = [];
  readonly #gpa: number;
  readonly #bytes: Uint8Array;
  readonly #data: DataView;

  /** @param memory bytes that are there already, or how many there shall be */
  constructor(memory: number | Uint8Array, gpa = 0) {
    this.#gpa = gpa;
    const bytes = typeof memory === "number" ? new Uint8Array(new SharedArrayBuffer(memory)) : memory;
    this.#bytes = bytes;
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.slots = [{ name: "ram", gpa, length: bytes.length, readOnly: false, bytes }];
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    return this.#holds(gpa, length)
      ? this.#bytes.subarray(gpa - this.#gpa, gpa - this.#gpa + length)
      : undefined;
  }

  read(gpa: number, into: Uint8Array): boolean {
    const view = this.view(gpa, into.length);
    if (view !== undefined) into.set(view);
    return view !== undefined;
  }

  write(gpa: number, from: Uint8Array): boolean {
    const view = this.view(gpa, from.length);
    if (view === undefined) return false;
    view.set(from);
    this.written(gpa, from.length);
    return true;
  }

  written(gpa: number, length: number): void {
    this.writes.push({ gpa, length });
  }

  readU8(gpa: number): number {
    return this.#holds(gpa, 1) ? this.#data.getUint8(gpa - this.#gpa) : 0xff;
  }

  readU16(gpa: number): number {
    return this.#holds(gpa, 2) ? this.#data.getUint16(gpa - this.#gpa, true) : 0xffff;
  }

  readU32(gpa: number): number {
    return this.#holds(gpa, 4) ? this.#data.getUint32(gpa - this.#gpa, true) : 0xffff_ffff;
  }

  writeU8(gpa: number, value: number): boolean {
    if (!this.#holds(gpa, 1)) return false;
    this.#data.setUint8(gpa - this.#gpa, value);
    this.written(gpa, 1);
    return true;
  }

  writeU16(gpa: number, value: number): boolean {
    if (!this.#holds(gpa, 2)) return false;
    this.#data.setUint16(gpa - this.#gpa, value, true);
    this.written(gpa, 2);
    return true;
  }

  writeU32(gpa: number, value: number): boolean {
    if (!this.#holds(gpa, 4)) return false;
    this.#data.setUint32(gpa - this.#gpa, value, true);
    this.written(gpa, 4);
    return true;
  }

  #holds(gpa: number, length: number): boolean {
    return gpa >= this.#gpa && length >= 0 && gpa + length <= this.#gpa + this.#bytes.length;
  }
}
