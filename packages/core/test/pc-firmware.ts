import type { FirmwareEntry } from "../src/contracts/index.ts";

type Entry<Kind extends FirmwareEntry["kind"]> = Omit<
  Extract<FirmwareEntry, { readonly kind: Kind }>,
  "kind"
>;

/** What the boards of tests differ in. */
export interface PcBoard {
  readonly acpiPm: Pick<Entry<"acpiPm">, "resetValue" | "s5SleepType">;
  readonly ioapicId: number;
  readonly pciRoot: Pick<Entry<"pciRoot">, "ecamGpa" | "busCount" | "intxGsiBase">;
}

/** What every PC of these tests says of itself: an ICH's power management, an I/O APIC, a PCI root and COM1. */
export const pcFirmware = ({ acpiPm, ioapicId, pciRoot }: PcBoard): readonly FirmwareEntry[] => [
  {
    kind: "acpiPm",
    pm1EventPort: 0x600,
    pm1ControlPort: 0x604,
    pmTimerPort: 0x608,
    gpe0Port: 0x620,
    sciGsi: 9,
    resetPort: 0xcf9,
    ...acpiPm,
  },
  { kind: "ioapic", id: ioapicId, gpa: 0xfec0_0000, gsiBase: 0 },
  { kind: "irqOverride", isaIrq: 0, gsi: 2, activeLow: false, level: false },
  { kind: "irqOverride", isaIrq: 9, gsi: 9, activeLow: false, level: true },
  { kind: "bootArchitecture", pcat: true, legacyDevices: true, i8042: true },
  {
    kind: "pciRoot",
    mmio32: { gpa: 0xc000_0000, length: 0x2000_0000 },
    mmio64: { gpa: 2 ** 36, length: 2 ** 32 },
    io: { base: 0xc000, length: 0x4000 },
    intxGsiCount: 4,
    ...pciRoot,
  },
  {
    kind: "acpiDevice",
    name: "COM1",
    hid: "PNP0501",
    uid: 0,
    ports: [{ base: 0x3f8, length: 8 }],
    irqs: [{ gsi: 4, level: false, activeLow: false, shared: false }],
  },
];
