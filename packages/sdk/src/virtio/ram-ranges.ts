import type { GuestMemory } from "@northbridge/core/contracts";

interface Range {
  readonly start: number;
  readonly end: number;
  readonly readOnly: boolean;
}

/** Which guest-physical addresses are memory: checks what a driver offers and allocates nothing. */
export class RamRanges {
  readonly #ranges: readonly Range[];
  #last: Range | undefined;

  constructor(memory: GuestMemory) {
    this.#ranges = memory.slots
      .map(({ gpa, length, readOnly }) => ({ start: gpa, end: gpa + length, readOnly }))
      .sort((a, b) => a.start - b.start);
    this.#last = this.#ranges[0];
  }

  /** Whether every byte is memory, and writable where that is asked. */
  contains(gpa: number, length: number, writable: boolean): boolean {
    const last = this.#last;
    if (last !== undefined && gpa >= last.start && gpa + length <= last.end && gpa < last.end) {
      return !(writable && last.readOnly);
    }
    let at = gpa;
    const end = gpa + length;
    for (const range of this.#ranges) {
      if (at < range.start) return false;
      if (at >= range.end) continue;
      if (writable && range.readOnly) return false;
      this.#last = range;
      at = range.end;
      if (at >= end) return true;
    }
    return false;
  }

  /** Bytes from `gpa` to the end of the range that holds it. */
  room(gpa: number): number {
    const last = this.#last;
    if (last !== undefined && gpa >= last.start && gpa < last.end) return last.end - gpa;
    for (const range of this.#ranges) if (gpa >= range.start && gpa < range.end) return range.end - gpa;
    return 0;
  }
}
