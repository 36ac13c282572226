import type { GuestMemory } from "../contracts/index.ts";
import type { ChunkedBytes } from "./chunked-bytes.ts";
import { bootImageError, describeBytes } from "./image-error.ts";

/** System V ABI, ELF header; AMD64 supplement for the machine. */
const EI_CLASS = 4;
const EI_DATA = 5;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const EM_X86_64 = 62;
const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** Xen, public/elfnote.h: the 32-bit entry of the PVH boot ABI. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** One loadable part of the image. */
export interface ElfSegment {
  /** Physical address, `p_paddr`. */
  readonly gpa: number;
  readonly virtual: bigint;
  /** What the file holds of it, as views that follow one another. The rest up to `length` is zero. */
  readonly content: readonly Uint8Array[];
  readonly length: number;
}

/** A parsed x86-64 ELF executable. */
export interface ElfImage {
  readonly file: string;
  /** Physical address of the entry point. */
  readonly entry: number;
  /** Physical entry point of the PVH boot ABI, where the image has one. */
  readonly pvhEntry: number | undefined;
  readonly segments: readonly ElfSegment[];
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** Parses a little-endian x86-64 ELF executable. Throws `NB_BOOT_IMAGE` for anything else and for a truncated file. */
export function parseElf64(file: string, bytes: ChunkedBytes): ElfImage {
  const start = bytes.slice(0, EHDR_SIZE);
  if (!isElf(start)) throw bootImageError(file, "an ELF executable", describeBytes(start));
  if (bytes.length < EHDR_SIZE) {
    throw bootImageError(file, "a whole ELF executable", `a file cut off at ${bytes.length} bytes`);
  }
  let data = viewOf(start);
  const machine = data.getUint16(18, true);
  if (start[EI_CLASS] !== ELFCLASS64 || start[EI_DATA] !== ELFDATA2LSB || machine !== EM_X86_64) {
    const width = start[EI_CLASS] === ELFCLASS64 ? 64 : 32;
    throw bootImageError(file, "an x86-64 ELF executable", `a ${width}-bit ELF for machine ${machine}`);
  }
  const entry = data.getBigUint64(24, true);
  const tableOffset = Number(data.getBigUint64(32, true));
  const entrySize = data.getUint16(54, true);
  const count = data.getUint16(56, true);
  if (entrySize < PHDR_SIZE || count === 0 || tableOffset + count * entrySize > bytes.length) {
    throw bootImageError(
      file,
      "an ELF executable with program headers",
      `${count} headers of ${entrySize} bytes at offset ${tableOffset} in a file of ${bytes.length} bytes`,
    );
  }

  data = viewOf(bytes.slice(tableOffset, count * entrySize));
  const segments: ElfSegment[] = [];
  let pvhEntry: number | undefined;
  for (let index = 0; index < count; index++) {
    const header = index * entrySize;
    const type = data.getUint32(header, true);
    if (type !== PT_LOAD && type !== PT_NOTE) continue;
    const word = (offset: number): bigint => data.getBigUint64(header + offset, true);
    const offset = Number(word(8));
    const fileSize = Number(word(32));
    const memorySize = Number(word(40));
    if (offset + fileSize > bytes.length) {
      throw bootImageError(
        file,
        `an ELF executable of at least ${offset + fileSize} bytes`,
        `a file cut off at ${bytes.length} bytes`,
      );
    }
    if (type === PT_NOTE) {
      pvhEntry ??= findPvhEntry(bytes.slice(offset, fileSize));
      continue;
    }
    if (fileSize > memorySize) {
      throw bootImageError(file, "segments no larger in the file than in memory", `segment ${index}`);
    }
    if (memorySize === 0) continue;
    segments.push({
      gpa: Number(word(24)),
      virtual: word(16),
      content: bytes.views(offset, fileSize),
      length: memorySize,
    });
  }
  if (segments.length === 0) throw bootImageError(file, "an ELF executable", "one with nothing to load");
  return { file, entry: physicalEntry(file, entry, segments), pvhEntry, segments };
}

/** Copies the segments to their physical addresses. Throws `NB_BOOT_IMAGE` where the guest has no RAM there. */
export function loadElf(memory: GuestMemory, image: ElfImage): void {
  for (const { gpa, length, content } of image.segments) {
    if (!isWritable(memory, gpa, length)) {
      throw bootImageError(
        image.file,
        "room in guest RAM for every segment",
        `one of ${length} bytes at 0x${gpa.toString(16)} outside of it: raise memory.mib`,
      );
    }
    let at = gpa;
    for (const part of content) {
      memory.write(at, part);
      at += part.length;
    }
    const zeroes = gpa + length - at;
    if (zeroes === 0) continue;
    memory.view(at, zeroes)?.fill(0);
    memory.written(at, zeroes);
  }
}

/** Whether the range lies in one slot that is no ROM. */
function isWritable(memory: GuestMemory, gpa: number, length: number): boolean {
  return memory.slots.some(
    (slot) => !slot.readOnly && slot.gpa <= gpa && gpa + length <= slot.gpa + slot.length,
  );
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Linux links its entry at the physical address, others at the virtual one: both lie in some segment. */
function physicalEntry(file: string, entry: bigint, segments: readonly ElfSegment[]): number {
  for (const segment of segments) {
    const start = BigInt(segment.gpa);
    if (entry >= start && entry < start + BigInt(segment.length)) return Number(entry);
  }
  for (const segment of segments) {
    const offset = entry - segment.virtual;
    if (offset >= 0n && offset < BigInt(segment.length)) return segment.gpa + Number(offset);
  }
  throw bootImageError(file, "an entry point inside a segment", `0x${entry.toString(16)}`);
}

/** Walks the notes of a PT_NOTE segment: name and descriptor are each padded to 4 bytes. */
function findPvhEntry(notes: Uint8Array): number | undefined {
  const data = viewOf(notes);
  for (let offset = 0; offset + 12 <= notes.length; ) {
    const nameSize = data.getUint32(offset, true);
    const descriptorSize = data.getUint32(offset + 4, true);
    const type = data.getUint32(offset + 8, true);
    const name = offset + 12;
    const descriptor = name + align4(nameSize);
    offset = descriptor + align4(descriptorSize);
    if (offset > notes.length) return undefined;
    const isXen =
      nameSize === 4 && notes[name] === 0x58 && notes[name + 1] === 0x65 && notes[name + 2] === 0x6e;
    if (isXen && type === XEN_ELFNOTE_PHYS32_ENTRY && descriptorSize >= 4) {
      return data.getUint32(descriptor, true);
    }
  }
  return undefined;
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}
