import type { Aml } from "./aml.ts";
import { buffer, littleEndian } from "./aml.ts";

/** Resource descriptors (ACPI 6.4 §6.4), as bytes. */
export type Resource = readonly number[];

const IRQ_WITH_FLAGS = 0x23;
const IO_PORT = 0x47;
const END_TAG = 0x79;
const MEMORY_32_FIXED = 0x86;
const DWORD_ADDRESS_SPACE = 0x87;
const WORD_ADDRESS_SPACE = 0x88;
const EXTENDED_INTERRUPT = 0x89;
const QWORD_ADDRESS_SPACE = 0x8a;

const SPACE_MEMORY = 0;
const SPACE_IO = 1;
const SPACE_BUS = 2;
/** General flags of address space descriptors: producer, positive decode, both ends fixed. */
const WINDOW = 0x0c;
const CONSUMED = 0x0d;
/** Memory: read-write, not cacheable. I/O: the entire range. */
const READ_WRITE = 0x01;
const ENTIRE_RANGE = 0x03;

/** A `_CRS` value: the descriptors and an end tag without checksum. */
export function resourceTemplate(resources: readonly Resource[]): Aml {
  return buffer([...resources.flat(), END_TAG, 0]);
}

/** Decoded ports: the small descriptor as long as it can say the length. */
export function ports(base: number, length: number): Resource {
  if (length > 0xff) return addressSpace(2, SPACE_IO, CONSUMED, ENTIRE_RANGE, base, length);
  const DECODE_16 = 1;
  return [IO_PORT, DECODE_16, ...littleEndian(base, 2), ...littleEndian(base, 2), 1, length];
}

export function memory(gpa: number, length: number): Resource {
  if (gpa + length > 2 ** 32) return addressSpace(8, SPACE_MEMORY, CONSUMED, READ_WRITE, gpa, length);
  return [MEMORY_32_FIXED, 9, 0, READ_WRITE, ...littleEndian(gpa, 4), ...littleEndian(length, 4)];
}

export interface Interrupt {
  readonly gsi: number;
  readonly level: boolean;
  readonly activeLow: boolean;
  readonly shared: boolean;
}

/** ISA lines in the small descriptor, which operating systems hold against the MADT's overrides; the rest as GSI. */
export function interrupt({ gsi, level, activeLow, shared }: Interrupt): Resource {
  const ISA_LINES = 16;
  if (gsi < ISA_LINES && level === activeLow) {
    // §6.4.2.1 knows edge with active high and level with active low, nothing else.
    const flags = (level ? 0 : 1) | (activeLow ? 1 << 3 : 0) | (shared ? 1 << 4 : 0);
    return [IRQ_WITH_FLAGS, ...littleEndian(1 << gsi, 2), flags];
  }
  const CONSUMER = 1;
  const flags = CONSUMER | (level ? 0 : 1 << 1) | (activeLow ? 1 << 2 : 0) | (shared ? 1 << 3 : 0);
  return [EXTENDED_INTERRUPT, 6, 0, flags, 1, ...littleEndian(gsi, 4)];
}

export function busNumberWindow(first: number, count: number): Resource {
  return addressSpace(2, SPACE_BUS, WINDOW, 0, first, count);
}

export function portWindow(base: number, length: number): Resource {
  return addressSpace(2, SPACE_IO, WINDOW, ENTIRE_RANGE, base, length);
}

export function memoryWindow(gpa: number, length: number): Resource {
  const size = gpa + length > 2 ** 32 ? 8 : 4;
  return addressSpace(size, SPACE_MEMORY, WINDOW, READ_WRITE, gpa, length);
}

/** §6.4.3.5: granularity, minimum, maximum, translation and length, each of `size` bytes. */
function addressSpace(
  size: 2 | 4 | 8,
  type: number,
  flags: number,
  typeFlags: number,
  base: number,
  length: number,
): Resource {
  const tags = { 2: WORD_ADDRESS_SPACE, 4: DWORD_ADDRESS_SPACE, 8: QWORD_ADDRESS_SPACE };
  const fields = [0, base, base + length - 1, 0, length].flatMap((field) => littleEndian(field, size));
  return [tags[size], ...littleEndian(3 + fields.length, 2), type, flags, typeFlags, ...fields];
}
