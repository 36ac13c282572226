import type { E820Entry } from "./e820.ts";
import { E820_RAM } from "./e820.ts";
import { bootImageError } from "./image-error.ts";

const PAGE = 4096;
/** Above the low megabyte, where the hand-over structures and the kernel's trampolines are. */
const LOWEST_GPA = 0x10_0000;

/** What an initial RAM disk must fit around. */
export interface InitrdRoom {
  readonly e820: readonly E820Entry[];
  /** Highest address its last byte may have, from the kernel's header. */
  readonly addrMax: number;
  /** First byte after the kernel, its bss and what it uses before it reads the memory map. */
  readonly kernelEnd: number;
}

/** The highest page-aligned address for an initrd. Throws `NB_BOOT_IMAGE` where it does not fit into RAM. */
export function placeInitrd(file: string, length: number, room: InitrdRoom): number {
  const lowest = Math.max(LOWEST_GPA, room.kernelEnd);
  let largest = 0;
  for (const range of [...room.e820].reverse()) {
    if (range.type !== E820_RAM) continue;
    const end = Math.min(range.gpa + range.length, room.addrMax + 1);
    const start = Math.max(range.gpa, lowest);
    const gpa = Math.floor((end - length) / PAGE) * PAGE;
    if (gpa >= start) return gpa;
    largest = Math.max(largest, end - start);
  }
  throw bootImageError(
    file,
    `an initrd of at most ${largest} bytes, the RAM that the kernel leaves`,
    `${length} bytes: raise memory.mib`,
  );
}
