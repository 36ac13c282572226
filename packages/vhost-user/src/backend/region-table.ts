import { fstatSync } from "node:fs";
import { close, PAGE_SIZE, Seal, sealsOf, SharedMapping } from "@northbridge/linux";
import type { GuestMemory, MemorySlot } from "@northbridge/sdk";
import { MAX_MEM_SLOTS } from "../protocol/spec.ts";
import type { DirtyLog } from "./dirty-log.ts";

/** Makes guest memory of slots; `written` hears of what a device wrote. `SlottedGuestMemory` of core is one. */
export type CreateMemory = (
  slots: readonly MemorySlot[],
  written: (gpa: number, length: number) => void,
) => GuestMemory;

/** A region as the front end describes it. */
export interface RegionDescription {
  readonly gpa: number;
  readonly size: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
}

interface Region extends RegionDescription {
  /** Device and inode of the file. */
  readonly file: string;
  readonly slots: readonly MemorySlot[];
  readonly mappings: readonly SharedMapping[];
}

/** Largest piece of a region that is mapped at once: what fits into one WebAssembly memory, with room to spare. */
const MAX_PIECE = 2 ** 31;

/** Regions, each counted as often as it was added: slots of memory for every queue pair of a card. */
const MOST_ADDED = 512;

/**
 * The front end's memory: its regions mapped here, and its addresses in ours. What is not a region of whole pages
 * inside of its file is refused: an access behind the end of a file would end this process.
 */
export class RegionTable {
  readonly memory: GuestMemory;
  /** QEMU 7.2 adds each region, and removes it, once for every pair of a network card's queues. */
  readonly #regions: readonly Region[];

  private constructor(regions: readonly Region[], createMemory: CreateMemory, log: DirtyLog) {
    this.#regions = regions;
    this.memory = createMemory(
      [...new Set(regions)].flatMap(({ slots }) => slots),
      (gpa, length) => {
        log.mark(gpa, length);
      },
    );
  }

  static empty(createMemory: CreateMemory, log: DirtyLog): RegionTable {
    return new RegionTable([], createMemory, log);
  }

  get count(): number {
    return new Set(this.#regions).size;
  }

  /**
   * A table of these regions, using again what is mapped here already, or a word for what is wrong with them. The
   * descriptors stay the caller's. Unmap the old table when nobody uses it any more.
   */
  replaced(
    descriptions: readonly RegionDescription[],
    fds: readonly number[],
    options: { readonly createMemory: CreateMemory; readonly log: DirtyLog; readonly sealed: boolean },
  ): RegionTable | string {
    const regions: Region[] = [];
    const made: Region[] = [];
    const refuse = (reason: string): string => {
      for (const region of made) unmap(region);
      return reason;
    };
    for (const [index, description] of descriptions.entries()) {
      const fd = fds[index];
      if (fd === undefined) return refuse("descriptorMissing");
      const found = check(description, fd, options.sealed);
      if (found.fault !== undefined) return refuse(found.fault);
      if (regions.some((other) => overlaps(other, description))) return refuse("regionOverlap");
      const known = this.#regions.find((region) => region.file === found.file && same(region, description));
      const region = known ?? map(description, fd, found.file);
      if (region === undefined) return refuse("regionNotMapped");
      if (known === undefined) made.push(region);
      regions.push(region);
    }
    return new RegionTable(regions, options.createMemory, options.log);
  }

  /** This table with one region more, or once more with one it has, or what is wrong with it. */
  with(
    description: RegionDescription,
    fd: number,
    options: { readonly createMemory: CreateMemory; readonly log: DirtyLog; readonly sealed: boolean },
  ): RegionTable | string {
    const found = check(description, fd, options.sealed);
    if (found.fault !== undefined) return found.fault;
    const known = this.#regions.find((region) => region.file === found.file && same(region, description));
    const others = this.#regions.filter((region) => region !== known);
    if (others.some((other) => overlaps(other, description))) return "regionOverlap";
    const isFull = known === undefined && this.count >= MAX_MEM_SLOTS;
    if (isFull || this.#regions.length >= MOST_ADDED) return "regions";
    const region = known ?? map(description, fd, found.file);
    if (region === undefined) return "regionNotMapped";
    return new RegionTable([...this.#regions, region], options.createMemory, options.log);
  }

  /** This table without a region; undefined where there is none of that place and size. */
  without(
    { gpa, size, userAddress }: RegionDescription,
    createMemory: CreateMemory,
    log: DirtyLog,
  ): RegionTable | undefined {
    const at = this.#regions.findIndex(
      (region) => region.gpa === gpa && region.size === size && region.userAddress === userAddress,
    );
    return at < 0 ? undefined : new RegionTable(this.#regions.toSpliced(at, 1), createMemory, log);
  }

  /** Guest-physical address of a byte of the front end's; undefined where it is in no region. */
  gpaOf(userAddress: number): number | undefined {
    for (const region of this.#regions) {
      const offset = userAddress - region.userAddress;
      if (offset >= 0 && offset < region.size) return region.gpa + offset;
    }
    return undefined;
  }

  /** Whether all of a range is in regions. */
  contains(gpa: number, length: number): boolean {
    for (let at = gpa; at < gpa + length; ) {
      const region = this.#regions.find((each) => at >= each.gpa && at < each.gpa + each.size);
      if (region === undefined) return false;
      at = region.gpa + region.size;
    }
    return true;
  }

  /** Lets go of what the other table has not. */
  unmapUnless(kept: RegionTable | undefined): void {
    const still = kept === undefined ? [] : kept.#regions;
    for (const region of new Set(this.#regions)) if (!still.includes(region)) unmap(region);
  }
}

const same = (a: RegionDescription, b: RegionDescription): boolean =>
  a.gpa === b.gpa && a.size === b.size && a.userAddress === b.userAddress && a.mmapOffset === b.mmapOffset;

const overlaps = (a: RegionDescription, b: RegionDescription): boolean =>
  (a.gpa < b.gpa + b.size && b.gpa < a.gpa + a.size) ||
  (a.userAddress < b.userAddress + b.size && b.userAddress < a.userAddress + a.size);

function check(
  { gpa, size, userAddress, mmapOffset }: RegionDescription,
  fd: number,
  sealed: boolean,
): { readonly file: string; readonly fault?: string } {
  const file = fstatSync(fd);
  const name = `${file.dev}:${file.ino}`;
  const isPages = [gpa, size, mmapOffset].every((value) => value % PAGE_SIZE === 0);
  if (size === 0 || !isPages) return { file: name, fault: "regionNotPages" };
  const ends = [gpa + size, userAddress + size, mmapOffset + size];
  if (!ends.every(Number.isSafeInteger)) return { file: name, fault: "regionTooLarge" };
  if (!file.isFile() || mmapOffset + size > file.size) return { file: name, fault: "regionBehindFile" };
  if (sealed && (sealsOf(fd) & Seal.SHRINK) === 0) return { file: name, fault: "regionNotSealed" };
  return { file: name };
}

function map(description: RegionDescription, fd: number, file: string): Region | undefined {
  const { gpa, size, mmapOffset } = description;
  const slots: MemorySlot[] = [];
  const mappings: SharedMapping[] = [];
  try {
    for (let at = 0; at < size; at += MAX_PIECE) {
      const length = Math.min(MAX_PIECE, size - at);
      const mapping = new SharedMapping(fd, length, `region at 0x${gpa.toString(16)}`, mmapOffset + at);
      mappings.push(mapping);
      slots.push({
        name: `region@0x${(gpa + at).toString(16)}`,
        gpa: gpa + at,
        length,
        readOnly: false,
        bytes: new Uint8Array(mapping.buffer, 0, length),
      });
    }
  } catch {
    for (const mapping of mappings) mapping.unmap();
    return undefined;
  }
  return { ...description, file, slots, mappings };
}

function unmap({ mappings }: Region): void {
  for (const mapping of mappings) mapping.unmap();
}

/** Closes descriptors that came with a message. */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) close(fd);
}
