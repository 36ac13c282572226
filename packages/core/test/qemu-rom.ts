import type { StartState } from "../src/index.ts";

/** A 64 KiB ROM for QEMU's `q35` that puts the processor into a start state, as our backends do by setting registers. */
export function romFor(state: StartState): Uint8Array {
  const { regs, sregs } = state;
  const long = sregs.cs.l;
  const code: number[] = [];
  const here = (): number => ROM_GPA + code.length;

  // Real mode, at F000:0000.
  code.push(0xfa, ...[0x2e, 0x66, 0x0f, 0x01, 0x16], ...le(OWN_GDTR, 2));
  code.push(...[0x0f, 0x20, 0xc0], ...[0x0c, 0x01], ...[0x0f, 0x22, 0xc0]);
  code.push(...[0x66, 0xea], ...le(here() + 8, 4), ...le(0x08, 2));
  // Flat protected mode.
  code.push(...LOAD_DATA_SEGMENTS);
  for (const [address, value] of CHIPSET) code.push(...outl(0xcf8, address), ...outl(0xcfc, value));
  code.push(...[0x0f, 0x01, 0x15], ...le(ROM_GPA + GUEST_GDTR, 4));
  if (long) {
    code.push(0xb8, ...le(Number(sregs.cr4), 4), ...[0x0f, 0x22, 0xe0]);
    code.push(0xb8, ...le(Number(sregs.cr3), 4), ...[0x0f, 0x22, 0xd8]);
    code.push(
      0xb9,
      ...le(0xc000_0080, 4),
      0xb8,
      ...le(Number(sregs.efer), 4),
      ...[0x31, 0xd2],
      ...[0x0f, 0x30],
    );
  }
  code.push(0xb8, ...le(Number(sregs.cr0), 4), ...[0x0f, 0x22, 0xc0], ...LOAD_DATA_SEGMENTS);
  code.push(0xea, ...le(here() + 7, 4), ...le(sregs.cs.selector, 2));
  // The guest's own code segment.
  if (long) {
    code.push(...[0x48, 0xbe], ...le(Number(regs.rsi), 8), ...[0x48, 0xb8], ...le(Number(regs.rip), 8));
  } else {
    code.push(0xbb, ...le(Number(regs.rbx), 4), 0xb8, ...le(Number(regs.rip), 4));
  }
  code.push(0xff, 0xe0);

  const rom = new Uint8Array(0x1_0000);
  rom.set(code);
  rom.set([...le(0x1f, 2), ...le(ROM_GPA + OWN_GDT, 4)], OWN_GDTR);
  rom.set([...le(sregs.gdt.limit, 2), ...le(Number(sregs.gdt.base), 4)], GUEST_GDTR);
  rom.set(le(0x00cf_9b00_0000_ffffn, 8), OWN_GDT + 0x08);
  rom.set(le(0x00cf_9300_0000_ffffn, 8), OWN_GDT + 0x18);
  // Reset vector: a jump to F000:0000.
  rom.set([0xe9, ...le(0x1_0000 - 0xfff3, 2)], 0xfff0);
  return rom;
}

const ROM_GPA = 0xf_0000;
const OWN_GDTR = 0x1000;
const GUEST_GDTR = 0x1008;
const OWN_GDT = 0x1010;

const LOAD_DATA_SEGMENTS = [0x66, 0xb8, 0x18, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0];

const configAddress = (device: number, fn: number, register: number): number =>
  (0x8000_0000 | (device << 11) | (fn << 8) | register) >>> 0;

/** What firmware sets up on this machine: RAM at 0xC0000–0xEFFFF, ECAM at 0xB0000000, PM registers at 0x600. */
const CHIPSET: readonly (readonly [address: number, value: number])[] = [
  [configAddress(0, 0, 0x90), 0x3333_3300],
  [configAddress(0, 0, 0x94), 0x0033_3333],
  [configAddress(0, 0, 0x60), 0xb000_0001],
  [configAddress(31, 0, 0x40), 0x0000_0601],
  [configAddress(31, 0, 0x44), 0x0000_0080],
];

function outl(port: number, value: number): number[] {
  return [0xb8, ...le(value, 4), 0xba, ...le(port, 4), 0xef];
}

function le(value: number | bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Number((BigInt(value) >> BigInt(8 * index)) & 0xffn));
}
