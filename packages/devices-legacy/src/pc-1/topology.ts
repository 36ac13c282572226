/**
 * What a guest of `pc-1` finds where. A published version never changes: another address is another machine type.
 * The local APICs, the I/O APIC and the i8259 pair belong to the backend, as under KVM; RAM's layout to `core`.
 */
export const topology = {
  lapicGpa: 0xfee0_0000,
  ioapic: { id: 0, gpa: 0xfec0_0000, gsiBase: 0 },
  /** PCI Express configuration, 256 buses of 1 MiB. */
  ecam: { gpa: 0xe000_0000, busCount: 256 },
  /** BARs below 4 GiB. RAM ends below. */
  mmio32: { gpa: 0xc000_0000, length: 0x2000_0000 },
  /** I/O BARs. */
  io: { base: 0x6000, length: 0xa000 },
  /** INTx of device `d`, pin `p` (INTA is 0): `base + (d + p) % count`. */
  intx: { gsiBase: 16, gsiCount: 8 },
  /** ACPI PM block and SCI. */
  pm: { base: 0x600, sciGsi: 9 },
  /** The timer's ISA line 0 is GSI 2, where an 82093AA has it; the SCI is level-triggered, active high. */
  irqOverrides: [
    { isaIrq: 0, gsi: 2, activeLow: false, level: false },
    { isaIrq: 9, gsi: 9, activeLow: false, level: true },
  ],
} as const;
