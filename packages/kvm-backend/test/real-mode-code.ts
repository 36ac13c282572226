/** Where a local APIC's registers are after a reset (SDM 3A §11.4.1). */
export const LAPIC = 0xfee00000;

/** A number's bytes, the lowest first. */
export const bytes = (value: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (value >>> (8 * i)) & 0xff);

/** MOV dword ES:[offset], value: a register of the local APIC, where ES is there. */
export const setApic = (offset: number, value: number): number[] => [
  ...[0x66, 0x26, 0xc7, 0x06, ...bytes(offset, 2)],
  ...bytes(value, 4),
];

/** Registers of a local APIC (SDM 3A §11.4.1). */
export const Apic = {
  SPURIOUS: 0xf0,
  COMMAND: 0x300,
  TIMER: 0x320,
  INITIAL_COUNT: 0x380,
  DIVIDE: 0x3e0,
} as const;
