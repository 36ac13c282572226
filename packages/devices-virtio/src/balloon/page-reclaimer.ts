import type { GuestMemory, MemorySlot, ReclaimPages } from "@northbridge/sdk";

/** Gives pages of guest memory back to the host: neighbours together, and what is no RAM not at all. */
export class PageReclaimer {
  readonly #memory: GuestMemory;
  readonly #reclaim: ReclaimPages;
  readonly #pageSize: number;
  /** The run that is being put together: first byte, and the one behind the last. */
  #start = 0;
  #end = 0;
  /** Pages given back since the last `flush`. */
  #done = 0;

  constructor(memory: GuestMemory, reclaim: ReclaimPages, pageSize: number) {
    this.#memory = memory;
    this.#reclaim = reclaim;
    this.#pageSize = pageSize;
  }

  /** Adds `[gpa, gpa + length)`: what of it are whole pages. Drivers name pages in rising or in falling order. */
  add(gpa: number, length: number): void {
    const page = this.#pageSize;
    const start = Math.ceil(gpa / page) * page;
    const end = Math.floor((gpa + length) / page) * page;
    if (end <= start) return;
    if (start === this.#end) this.#end = end;
    else if (end === this.#start) this.#start = start;
    else {
      this.#done += this.#giveBack();
      this.#start = start;
      this.#end = end;
    }
  }

  /** Gives back what was added. Returns how many pages that were since the last call. */
  flush(): number {
    const done = this.#done + this.#giveBack();
    this.#done = 0;
    return done;
  }

  #giveBack(): number {
    let pages = 0;
    for (let at = this.#start; at < this.#end; ) {
      const slot = this.#slotAt(at);
      if (slot === undefined || slot.readOnly || slot.device !== undefined) {
        at += this.#pageSize;
        continue;
      }
      const end = Math.min(this.#end, slot.gpa + slot.length);
      this.#reclaim(slot.bytes.subarray(at - slot.gpa, end - slot.gpa));
      this.#memory.written(at, end - at);
      pages += (end - at) / this.#pageSize;
      at = end;
    }
    this.#start = this.#end;
    return pages;
  }

  #slotAt(gpa: number): MemorySlot | undefined {
    return this.#memory.slots.find((slot) => gpa >= slot.gpa && gpa < slot.gpa + slot.length);
  }
}
