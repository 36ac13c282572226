import type { FirmwareEntry, MemoryMapEntry } from "../contracts/index.ts";

/** Types of Linux's and the firmware's memory map (ACPI 6.4 §15, table 15-4). */
export const E820_RAM = 1;
export const E820_RESERVED = 2;

export interface E820Entry {
  readonly gpa: number;
  readonly length: number;
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/** The last KiB below 640 KiB: extended BIOS data on a PC. Kernels look there, so they must not allocate it. */
const EBDA_GPA = 0x9_fc00;
const VIDEO_GPA = 0xa_0000;
/** Where the firmware tables are, on machines whose map does not already reserve the range. */
const TABLES_GPA = 0xe_0000;
const EXTENDED_GPA = 0x10_0000;
const ECAM_BYTES_PER_BUS = 2 ** 20;

/**
 * The memory map that the guest's kernel is handed: RAM without the EBDA and the firmware tables, and the
 * configuration space of PCI, which Linux trusts only where it is reserved. In ascending order.
 */
export function e820Map(
  memoryMap: readonly MemoryMapEntry[],
  firmware: readonly FirmwareEntry[],
): readonly E820Entry[] {
  const reserved: { readonly gpa: number; readonly length: number }[] = [
    { gpa: EBDA_GPA, length: VIDEO_GPA - EBDA_GPA },
    ...memoryMap.filter(({ kind }) => kind === "reserved"),
  ];
  if (firmware.length > 0) reserved.push({ gpa: TABLES_GPA, length: EXTENDED_GPA - TABLES_GPA });
  for (const entry of firmware) {
    if (entry.kind !== "pciRoot") continue;
    reserved.push({ gpa: entry.ecamGpa, length: entry.busCount * ECAM_BYTES_PER_BUS });
  }

  let ram = memoryMap.filter(({ kind }) => kind === "ram").map(({ gpa, length }) => ({ gpa, length }));
  for (const hole of reserved) ram = ram.flatMap((range) => subtract(range, hole));

  return [
    ...ram.map((range): E820Entry => ({ ...range, type: E820_RAM })),
    ...merge(reserved).map((range): E820Entry => ({ ...range, type: E820_RESERVED })),
  ].sort((a, b) => a.gpa - b.gpa);
}

interface Range {
  readonly gpa: number;
  readonly length: number;
}

function subtract(from: Range, hole: Range): Range[] {
  const end = from.gpa + from.length;
  const holeEnd = hole.gpa + hole.length;
  if (holeEnd <= from.gpa || hole.gpa >= end) return [from];
  return [
    { gpa: from.gpa, length: hole.gpa - from.gpa },
    { gpa: holeEnd, length: end - holeEnd },
  ].filter(({ length }) => length > 0);
}

function merge(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const range of [...ranges].sort((a, b) => a.gpa - b.gpa)) {
    const last = merged.at(-1);
    if (last === undefined || last.gpa + last.length < range.gpa) {
      merged.push(range);
      continue;
    }
    const end = Math.max(last.gpa + last.length, range.gpa + range.length);
    merged[merged.length - 1] = { gpa: last.gpa, length: end - last.gpa };
  }
  return merged;
}
