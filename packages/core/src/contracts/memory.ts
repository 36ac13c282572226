import { type Token, token } from "./token.ts";

/** One range of guest-physical memory. Page-aligned in base, length and host address. */
export interface MemorySlot {
  readonly name: string;
  readonly gpa: number;
  /** Bytes, a multiple of 4096. */
  readonly length: number;
  /** Guest writes to a read-only slot (ROM) vanish. */
  readonly readOnly: boolean;
  /** The slot's bytes, zero-copy, in shared memory that never moves or grows. */
  readonly bytes: Uint8Array;
  /** Id of the device whose own memory it is (`memoryBytes` of its plugin); absent of RAM and ROM. */
  readonly device?: string;
}

/** One entry of the firmware's memory map (ACPI 6.4 §15). What no entry covers is not memory. */
export interface MemoryMapEntry {
  readonly gpa: number;
  /** Bytes, a multiple of 4096. */
  readonly length: number;
  /** `reserved`: there is memory, and the guest's kernel must leave it alone (firmware tables live there). */
  readonly kind: "ram" | "reserved";
}

/**
 * Guest-physical memory as devices and loaders see it. An address range that is not wholly memory is the
 * guest's mistake, not an exception: the answer says so.
 */
export interface GuestMemory {
  readonly slots: readonly MemorySlot[];
  /**
   * A zero-copy view, or undefined where the range is not inside one slot.
   * After writing through it call `written`.
   */
  view(gpa: number, length: number): Uint8Array | undefined;
  /** Fills `into`. False, and `into` untouched, where any byte is not memory. Crosses slots. */
  read(gpa: number, into: Uint8Array): boolean;
  /** Copies `from` to the guest and reports the pages. False, and nothing written, where any byte is not writable memory. */
  write(gpa: number, from: Uint8Array): boolean;
  /** Says that a device wrote `[gpa, gpa + length)` through a view: decoded code there is dropped, the dirty log hears of it. */
  written(gpa: number, length: number): void;
  /** Little-endian scalar reads; all-ones where it is not memory. */
  readU8(gpa: number): number;
  readU16(gpa: number): number;
  readU32(gpa: number): number;
  /** Little-endian scalar writes. False where it is not writable memory. */
  writeU8(gpa: number, value: number): boolean;
  writeU16(gpa: number, value: number): boolean;
  writeU32(gpa: number, value: number): boolean;
}

/**
 * Gives whole pages of guest memory back to the host: they read as zeros until somebody writes them. Whether they take
 * none of the host's memory until then is the host's affair. Say `written` as for any change.
 */
export type ReclaimPages = (pages: Uint8Array) => void;

/** Provided by the machine. */
export const ReclaimPages: Token<ReclaimPages> = token<ReclaimPages>("reclaimPages");
