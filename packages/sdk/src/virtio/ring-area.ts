import type { GuestMemory } from "@northbridge/core/contracts";
import type { RamRanges } from "./ram-ranges.ts";
import type { QueueFault } from "./virt-queue.ts";

/** Where a driver says that a part of a queue is. */
export interface RingPlace {
  readonly gpa: number;
  readonly length: number;
  readonly alignment: number;
  /** The device writes it. */
  readonly writable: boolean;
}

/** The part's bytes, or what is wrong with its place. */
export function ringArea(memory: GuestMemory, ram: RamRanges, place: RingPlace): DataView | QueueFault {
  const { gpa, length, alignment, writable } = place;
  if (gpa % alignment !== 0) return "ringMisaligned";
  const view = ram.contains(gpa, length, writable) ? memory.view(gpa, length) : undefined;
  return view === undefined ? "ringOutsideMemory" : new DataView(view.buffer, view.byteOffset, view.length);
}
