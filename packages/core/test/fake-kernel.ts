import { gzipSync } from "node:zlib";
import type { MemoryMapEntry } from "../src/index.ts";
import { memoryMap, SlottedGuestMemory } from "../src/index.ts";

export interface FakeSegment {
  readonly gpa: number;
  readonly virtual?: bigint;
  readonly bytes: Uint8Array;
  readonly length?: number;
}

/** An x86-64 ELF executable, byte by byte from the System V ABI. */
export function fakeElf(options: {
  readonly entry: number | bigint;
  readonly segments: readonly FakeSegment[];
  readonly pvhEntry?: number;
}): Uint8Array {
  const { entry, segments, pvhEntry } = options;
  const note = new Uint8Array(pvhEntry === undefined ? 0 : 40);
  if (pvhEntry !== undefined) {
    const data = new DataView(note.buffer);
    // Another note first: name "Xen", type 6, six bytes of descriptor, padded.
    data.setUint32(0, 4, true);
    data.setUint32(4, 6, true);
    data.setUint32(8, 6, true);
    note.set([0x58, 0x65, 0x6e], 12);
    const second = new Uint8Array(20);
    const fields = new DataView(second.buffer);
    fields.setUint32(0, 4, true);
    fields.setUint32(4, 4, true);
    fields.setUint32(8, 18, true);
    second.set([0x58, 0x65, 0x6e], 12);
    fields.setUint32(16, pvhEntry, true);
    return elfWith(entry, segments, new Uint8Array([...note.subarray(0, 24), ...second]));
  }
  return elfWith(entry, segments, note);
}

function elfWith(entry: number | bigint, segments: readonly FakeSegment[], note: Uint8Array): Uint8Array {
  const parts = [
    ...segments.map((segment) => ({ type: 1, ...segment })),
    ...(note.length > 0 ? [{ type: 4, gpa: 0, bytes: note }] : []),
  ];
  let offset = 64 + parts.length * 56;
  const file = new Uint8Array(offset + parts.reduce((sum, { bytes }) => sum + bytes.length, 0));
  const data = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  data.setUint16(16, 2, true);
  data.setUint16(18, 62, true);
  data.setBigUint64(24, BigInt(entry), true);
  data.setBigUint64(32, 64n, true);
  data.setUint16(52, 64, true);
  data.setUint16(54, 56, true);
  data.setUint16(56, parts.length, true);
  for (const [index, part] of parts.entries()) {
    const header = 64 + index * 56;
    data.setUint32(header, part.type, true);
    const virtual = "virtual" in part ? (part.virtual ?? BigInt(part.gpa)) : BigInt(part.gpa);
    const length = "length" in part ? (part.length ?? part.bytes.length) : part.bytes.length;
    const words = [offset, virtual, part.gpa, part.bytes.length, length];
    for (const [word, value] of words.entries()) {
      data.setBigUint64(header + 8 + word * 8, BigInt(value), true);
    }
    file.set(part.bytes, offset);
    offset += part.bytes.length;
  }
  return file;
}

/** The compressed payload of a kernel build whose format has no size of its own: the size stands behind it. */
export function withSize(packed: Uint8Array, size: number): Uint8Array {
  const trailed = new Uint8Array(packed.length + 4);
  trailed.set(packed);
  new DataView(trailed.buffer).setUint32(packed.length, size, true);
  return trailed;
}

/** A bzImage of boot protocol 2.15 (Linux, Documentation/arch/x86/boot.rst). */
export function fakeBzImage(
  elf: Uint8Array,
  options: { readonly payload?: Uint8Array; readonly protocol?: number; readonly initSize?: number } = {},
): Uint8Array {
  const payload = options.payload ?? gzipSync(elf);
  const SETUP_SECTS = 1;
  const codeStart = (SETUP_SECTS + 1) * 512;
  const PAYLOAD_OFFSET = 0x300;
  const paragraphs = Math.ceil((PAYLOAD_OFFSET + payload.length) / 16);
  const file = new Uint8Array(codeStart + paragraphs * 16);
  const data = new DataView(file.buffer);
  data.setUint8(0x1f1, SETUP_SECTS);
  data.setUint32(0x1f4, paragraphs, true);
  data.setUint16(0x1fe, 0xaa55, true);
  file.set([0xeb, 0x6a], 0x200);
  file.set([0x48, 0x64, 0x72, 0x53], 0x202);
  data.setUint16(0x206, options.protocol ?? 0x20f, true);
  data.setUint8(0x211, 1);
  data.setUint32(0x22c, 0x7fff_ffff, true);
  data.setUint32(0x230, 0x20_0000, true);
  data.setUint8(0x234, 1);
  data.setUint16(0x236, 0x7f, true);
  data.setUint32(0x238, 2047, true);
  data.setUint32(0x248, PAYLOAD_OFFSET, true);
  data.setUint32(0x24c, payload.length, true);
  data.setBigUint64(0x258, 0x100_0000n, true);
  data.setUint32(0x260, options.initSize ?? 0x30_0000, true);
  file.set(payload, codeStart + PAYLOAD_OFFSET);
  return file;
}

export interface FakeGuest {
  readonly memory: SlottedGuestMemory;
  readonly memoryMap: readonly MemoryMapEntry[];
}

/** Guest memory of a machine with `mib` of RAM. */
export function fakeGuest(mib: number, layout: "pc" | "flat" = "pc"): FakeGuest {
  const map = memoryMap(layout, mib);
  const slots = map.map(({ gpa, length, kind }) => ({
    name: kind,
    gpa,
    length,
    readOnly: false,
    bytes: new Uint8Array(length),
  }));
  return { memory: new SlottedGuestMemory(slots, () => undefined), memoryMap: map };
}
