import type { GuestMemory, MemorySlot } from "../contracts/index.ts";

interface Slot {
  readonly slot: MemorySlot;
  readonly gpa: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  readonly data: DataView;
}

/** Guest-physical memory over the slots of a virtual machine. */
export class SlottedGuestMemory implements GuestMemory {
  readonly slots: readonly MemorySlot[];
  readonly #slots: readonly Slot[];
  readonly #report: (gpa: number, length: number) => void;
  #last: Slot | undefined;

  /** @param report hears of every range that host code wrote: `VirtualMachine.memoryWritten` */
  constructor(slots: readonly MemorySlot[], report: (gpa: number, length: number) => void) {
    this.slots = [...slots].sort((a, b) => a.gpa - b.gpa);
    this.#slots = this.slots.map((slot) => ({
      slot,
      gpa: slot.gpa,
      end: slot.gpa + slot.length,
      bytes: slot.bytes,
      data: new DataView(slot.bytes.buffer, slot.bytes.byteOffset, slot.length),
    }));
    this.#report = report;
    this.#last = this.#slots[0];
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    const slot = this.#covering(gpa, length);
    return slot?.bytes.subarray(gpa - slot.gpa, gpa - slot.gpa + length);
  }

  read(gpa: number, into: Uint8Array): boolean {
    const slot = this.#covering(gpa, into.length);
    if (slot !== undefined) {
      into.set(slot.bytes.subarray(gpa - slot.gpa, gpa - slot.gpa + into.length));
      return true;
    }
    if (!this.#isMemory(gpa, into.length, false)) return false;
    for (let done = 0; done < into.length; ) {
      const part = this.#at(gpa + done);
      if (part === undefined) return false;
      const offset = gpa + done - part.gpa;
      const piece = part.bytes.subarray(offset, offset + into.length - done);
      into.set(piece, done);
      done += piece.length;
    }
    return true;
  }

  write(gpa: number, from: Uint8Array): boolean {
    if (!this.#isMemory(gpa, from.length, true)) return false;
    for (let done = 0; done < from.length; ) {
      const part = this.#at(gpa + done);
      if (part === undefined) return false;
      const offset = gpa + done - part.gpa;
      const length = Math.min(from.length - done, part.end - part.gpa - offset);
      part.bytes.set(from.subarray(done, done + length), offset);
      this.#report(gpa + done, length);
      done += length;
    }
    return true;
  }

  written(gpa: number, length: number): void {
    for (const { gpa: start, end } of this.#slots) {
      const from = Math.max(gpa, start);
      const to = Math.min(gpa + length, end);
      if (from < to) this.#report(from, to - from);
    }
  }

  readU8(gpa: number): number {
    const slot = this.#covering(gpa, 1);
    return slot === undefined ? 0xff : slot.data.getUint8(gpa - slot.gpa);
  }

  readU16(gpa: number): number {
    const slot = this.#covering(gpa, 2);
    if (slot !== undefined) return slot.data.getUint16(gpa - slot.gpa, true);
    return this.#isMemory(gpa, 2, false) ? this.readU8(gpa) | (this.readU8(gpa + 1) << 8) : 0xffff;
  }

  readU32(gpa: number): number {
    const slot = this.#covering(gpa, 4);
    if (slot !== undefined) return slot.data.getUint32(gpa - slot.gpa, true);
    if (!this.#isMemory(gpa, 4, false)) return 0xffff_ffff;
    let value = 0;
    for (let i = 0; i < 4; i++) value |= this.readU8(gpa + i) << (8 * i);
    return value >>> 0;
  }

  writeU8(gpa: number, value: number): boolean {
    const slot = this.#covering(gpa, 1);
    if (slot === undefined || slot.slot.readOnly) return false;
    slot.data.setUint8(gpa - slot.gpa, value);
    this.#report(gpa, 1);
    return true;
  }

  writeU16(gpa: number, value: number): boolean {
    const slot = this.#covering(gpa, 2);
    if (slot !== undefined && !slot.slot.readOnly) {
      slot.data.setUint16(gpa - slot.gpa, value, true);
      this.#report(gpa, 2);
      return true;
    }
    return this.#writeAcross(gpa, 2, value);
  }

  writeU32(gpa: number, value: number): boolean {
    const slot = this.#covering(gpa, 4);
    if (slot !== undefined && !slot.slot.readOnly) {
      slot.data.setUint32(gpa - slot.gpa, value, true);
      this.#report(gpa, 4);
      return true;
    }
    return this.#writeAcross(gpa, 4, value);
  }

  #writeAcross(gpa: number, length: number, value: number): boolean {
    if (!this.#isMemory(gpa, length, true)) return false;
    for (let i = 0; i < length; i++) this.writeU8(gpa + i, value >>> (8 * i));
    return true;
  }

  /** The slot that holds all of `[gpa, gpa + length)`. */
  #covering(gpa: number, length: number): Slot | undefined {
    const slot = this.#at(gpa);
    return slot !== undefined && length >= 0 && gpa + length <= slot.end ? slot : undefined;
  }

  #at(gpa: number): Slot | undefined {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa < last.end) return last;
    for (const slot of this.#slots) {
      if (gpa >= slot.gpa && gpa < slot.end) {
        this.#last = slot;
        return slot;
      }
    }
    return undefined;
  }

  #isMemory(gpa: number, length: number, writable: boolean): boolean {
    // Written so that NaN is no memory either.
    if (!(gpa >= 0 && length >= 0)) return false;
    const end = gpa + length;
    let at = gpa;
    for (const slot of this.#slots) {
      if (at >= end) break;
      if (at < slot.gpa) return false;
      if (at >= slot.end) continue;
      if (writable && slot.slot.readOnly) return false;
      at = slot.end;
    }
    return at >= end && length > 0 ? true : length === 0 && this.#at(gpa) !== undefined;
  }
}
