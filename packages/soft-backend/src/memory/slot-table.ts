import {
  checkMemorySlot,
  type DirtyLog,
  type MemorySlot,
  NorthbridgeError,
  type SlotRequest,
} from "@northbridge/sdk";
import type { CpuCore } from "../cpu/core.ts";
import { MAX_SLOTS, PAGE_DIRTY, RAM, SLOTS, SLOT_SIZE } from "../cpu/layout.ts";

const PAGE = 4096;
const READ_ONLY = 1;

interface PlacedSlot extends MemorySlot {
  /** Where the slot begins in wasm memory. */
  readonly address: number;
}

/** Places the guest's memory slots in wasm memory and tells the core of them; logs which pages were written. */
export class SlotTable implements DirtyLog {
  readonly #core: CpuCore;
  readonly #slots: PlacedSlot[] = [];
  readonly #capacity: number;
  #used = 0;
  #isLogging = false;

  constructor(deps: { readonly core: CpuCore; readonly capacity: number }) {
    this.#core = deps.core;
    this.#capacity = deps.capacity;
  }

  add(slot: SlotRequest & { readonly readOnly?: boolean }): MemorySlot {
    const { name, gpa, length } = slot;
    checkMemorySlot(slot, { backend: "the software CPU", most: MAX_SLOTS, slots: this.#slots });
    if (this.#used + length > this.#capacity) {
      throw new NorthbridgeError(
        "NB_MEMORY",
        `memory slot ${name}: ${length} bytes do not fit in what the machine reserved (${this.#capacity - this.#used} left)`,
      );
    }
    const address = RAM + this.#used;
    this.#used += length;
    const placed: PlacedSlot = {
      name,
      gpa,
      length,
      readOnly: slot.readOnly ?? false,
      bytes: new Uint8Array(this.#core.memory, address, length),
      address,
    };
    this.#slots.push(placed);
    this.#publish();
    return placed;
  }

  /** Host code wrote guest memory. What is not memory in the range is skipped. */
  written(gpa: number, length: number): void {
    const end = gpa + length;
    for (const slot of this.#slots) {
      const from = Math.max(gpa, slot.gpa);
      const to = Math.min(end, slot.gpa + slot.length);
      if (from < to) this.#core.memoryWritten(slot.address + (from - slot.gpa), to - from);
    }
  }

  enable(): void {
    this.#isLogging = true;
    this.#flags().fill(0);
    this.#core.setDirtyLog(true);
  }

  disable(): void {
    this.#isLogging = false;
    this.#core.setDirtyLog(false);
  }

  harvest(): number[] {
    const pages: number[] = [];
    if (!this.#isLogging) return pages;
    const flags = this.#flags();
    for (const slot of [...this.#slots].sort((a, b) => a.gpa - b.gpa)) {
      const first = (slot.address - RAM) / PAGE;
      const base = slot.gpa / PAGE;
      for (let page = 0; page < slot.length / PAGE; page++)
        if (flags[first + page] !== 0) pages.push(base + page);
    }
    flags.fill(0);
    this.#core.setDirtyLog(true); // translations that remember "already dirty" must go
    return pages;
  }

  #flags(): Uint8Array {
    return new Uint8Array(this.#core.memory, PAGE_DIRTY, Math.ceil(this.#used / PAGE));
  }

  #publish(): void {
    const view = this.#core.view;
    this.#slots.forEach((slot, index) => {
      const entry = SLOTS + SLOT_SIZE + index * SLOT_SIZE;
      view.setUint32(entry, slot.gpa / PAGE, true);
      view.setUint32(entry + 4, slot.length / PAGE, true);
      view.setUint32(entry + 8, slot.address, true);
      view.setUint32(entry + 12, slot.readOnly ? READ_ONLY : 0, true);
    });
    view.setUint32(SLOTS, this.#slots.length, true);
    this.#core.slotsChanged();
  }
}
