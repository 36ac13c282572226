import { NorthbridgeError } from "./errors.ts";

/** What a device tells the guest's firmware tables (ACPI 6.4). Data only; `core/firmware` writes the tables. */
export type FirmwareEntry =
  | AcpiDevice
  /** Fixed hardware of the FADT (§5.2.9). Ports. */
  | {
      readonly kind: "acpiPm";
      readonly pm1EventPort: number;
      readonly pm1ControlPort: number;
      readonly pmTimerPort: number;
      readonly gpe0Port?: number;
      readonly sciGsi: number;
      readonly smiCommandPort?: number;
      /** FADT reset register. */
      readonly resetPort: number;
      readonly resetValue: number;
      /** SLP_TYP of S5, for the DSDT's `_S5_`. */
      readonly s5SleepType: number;
    }
  | { readonly kind: "ioapic"; readonly id: number; readonly gpa: number; readonly gsiBase: number }
  /** MADT interrupt source override: ISA line → GSI. */
  | {
      readonly kind: "irqOverride";
      readonly isaIrq: number;
      readonly gsi: number;
      readonly activeLow: boolean;
      readonly level: boolean;
    }
  /** Present 8259 pair (MADT flag PCAT_COMPAT), legacy devices and i8042 (FADT boot flags). */
  | {
      readonly kind: "bootArchitecture";
      readonly pcat: boolean;
      readonly legacyDevices: boolean;
      readonly i8042: boolean;
    }
  /** A PCI root with ECAM; INTx routing by device: `gsi = intxGsiBase + (device + pin) % intxGsiCount`. */
  | {
      readonly kind: "pciRoot";
      readonly ecamGpa: number;
      readonly busCount: number;
      readonly mmio32: { readonly gpa: number; readonly length: number };
      readonly mmio64?: { readonly gpa: number; readonly length: number };
      readonly io: { readonly base: number; readonly length: number };
      readonly intxGsiBase: number;
      readonly intxGsiCount: number;
    };

const FIRMWARE_KINDS: Readonly<Record<FirmwareEntry["kind"], true>> = {
  acpiDevice: true,
  acpiPm: true,
  bootArchitecture: true,
  ioapic: true,
  irqOverride: true,
  pciRoot: true,
};

/** Throws `NB_CONFIG` for what no table has a place for. */
export function expectFirmwareEntry(entry: { readonly kind: string }): void {
  if (Object.hasOwn(FIRMWARE_KINDS, entry.kind)) return;
  const kinds = Object.keys(FIRMWARE_KINDS).join(", ");
  throw new NorthbridgeError(
    "NB_CONFIG",
    `describe: expected one of the kinds ${kinds}, found ${entry.kind}`,
  );
}

/** A device of the DSDT's `\_SB_`. */
export interface AcpiDevice {
  readonly kind: "acpiDevice";
  /** Four characters, unique: `COM1`. */
  readonly name: string;
  /** `PNP0501`, `LNRO0005` … */
  readonly hid: string;
  readonly uid: number;
  readonly ports?: readonly { readonly base: number; readonly length: number }[];
  readonly mmio?: readonly { readonly gpa: number; readonly length: number }[];
  readonly irqs?: readonly {
    readonly gsi: number;
    readonly level: boolean;
    readonly activeLow: boolean;
    readonly shared: boolean;
  }[];
}
