import type { FirmwareEntry } from "../contracts/index.ts";
import { seal, table } from "./table.ts";

/** Fixed ACPI Description Table, revision 6.4 (ACPI 6.4 §5.2.9, table 5.9). */
const FADT_REVISION = 6;
const FADT_MINOR_REVISION = 4;
const FADT_LENGTH = 276;

const Fadt = {
  FIRMWARE_CTRL: 36,
  DSDT: 40,
  SCI_INT: 46,
  SMI_CMD: 48,
  ACPI_ENABLE: 52,
  ACPI_DISABLE: 53,
  PM1A_EVT_BLK: 56,
  PM1A_CNT_BLK: 64,
  PM_TMR_BLK: 76,
  GPE0_BLK: 80,
  PM1_EVT_LEN: 88,
  PM1_CNT_LEN: 89,
  PM_TMR_LEN: 91,
  GPE0_BLK_LEN: 92,
  P_LVL2_LAT: 96,
  P_LVL3_LAT: 98,
  CENTURY: 108,
  IAPC_BOOT_ARCH: 109,
  FLAGS: 112,
  RESET_REG: 116,
  RESET_VALUE: 128,
  MINOR_REVISION: 131,
  X_DSDT: 140,
  X_PM1A_EVT_BLK: 148,
  X_PM1A_CNT_BLK: 172,
  X_PM_TMR_BLK: 208,
  X_GPE0_BLK: 220,
} as const;

const Flag = {
  WBINVD: 1 << 0,
  PROC_C1: 1 << 2,
  /** No fixed sleep button. */
  SLP_BUTTON: 1 << 5,
  FIX_RTC: 1 << 6,
  RESET_REG_SUP: 1 << 10,
  HW_REDUCED_ACPI: 1 << 20,
} as const;

const BootArchitecture = { LEGACY_DEVICES: 1 << 0, I8042: 1 << 1, VGA_NOT_PRESENT: 1 << 2 } as const;

/** What the OS writes to the SMI command port to take the hardware over, and to give it back. */
export const ACPI_ENABLE_VALUE = 0xf1;
export const ACPI_DISABLE_VALUE = 0xf0;

/** Register of the RTC with the century, in the place where PCs have it. */
const RTC_CENTURY = 0x32;
/** Latencies above these say that the C2 and C3 states do not exist. */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;

const PM1_EVENT_BYTES = 4;
const PM1_CONTROL_BYTES = 2;
const PM_TIMER_BYTES = 4;
const GPE0_BYTES = 4;

type AcpiPm = Extract<FirmwareEntry, { kind: "acpiPm" }>;

/** The FADT. Without an `acpiPm` entry it says hardware-reduced: there are no fixed registers at all. */
export function buildFadt(firmware: readonly FirmwareEntry[], facsGpa: number, dsdtGpa: number): Uint8Array {
  const data = table("FACP", FADT_REVISION, FADT_LENGTH);
  data.setUint32(Fadt.FIRMWARE_CTRL, facsGpa, true);
  data.setUint32(Fadt.DSDT, dsdtGpa, true);
  data.setBigUint64(Fadt.X_DSDT, BigInt(dsdtGpa), true);
  data.setUint8(Fadt.MINOR_REVISION, FADT_MINOR_REVISION);
  data.setUint16(Fadt.P_LVL2_LAT, NO_C2, true);
  data.setUint16(Fadt.P_LVL3_LAT, NO_C3, true);
  data.setUint8(Fadt.CENTURY, RTC_CENTURY);

  const boot = firmware.find((entry) => entry.kind === "bootArchitecture");
  let architecture: number = BootArchitecture.VGA_NOT_PRESENT;
  if (boot?.legacyDevices === true) architecture |= BootArchitecture.LEGACY_DEVICES;
  if (boot?.i8042 === true) architecture |= BootArchitecture.I8042;
  data.setUint16(Fadt.IAPC_BOOT_ARCH, architecture, true);

  const pm = firmware.find((entry) => entry.kind === "acpiPm");
  const common = Flag.WBINVD | Flag.PROC_C1 | Flag.SLP_BUTTON | Flag.FIX_RTC;
  data.setUint32(Fadt.FLAGS, common | (pm ? Flag.RESET_REG_SUP : Flag.HW_REDUCED_ACPI), true);
  if (pm !== undefined) writeFixedHardware(data, pm);
  return seal(data);
}

function writeFixedHardware(data: DataView, pm: AcpiPm): void {
  data.setUint16(Fadt.SCI_INT, pm.sciGsi, true);
  if (pm.smiCommandPort !== undefined) {
    data.setUint32(Fadt.SMI_CMD, pm.smiCommandPort, true);
    data.setUint8(Fadt.ACPI_ENABLE, ACPI_ENABLE_VALUE);
    data.setUint8(Fadt.ACPI_DISABLE, ACPI_DISABLE_VALUE);
  }
  data.setUint32(Fadt.PM1A_EVT_BLK, pm.pm1EventPort, true);
  data.setUint32(Fadt.PM1A_CNT_BLK, pm.pm1ControlPort, true);
  data.setUint32(Fadt.PM_TMR_BLK, pm.pmTimerPort, true);
  data.setUint8(Fadt.PM1_EVT_LEN, PM1_EVENT_BYTES);
  data.setUint8(Fadt.PM1_CNT_LEN, PM1_CONTROL_BYTES);
  data.setUint8(Fadt.PM_TMR_LEN, PM_TIMER_BYTES);
  // Two registers of 16 bits, status and enable.
  setPortAddress(data, Fadt.X_PM1A_EVT_BLK, pm.pm1EventPort, PM1_EVENT_BYTES, 2);
  setPortAddress(data, Fadt.X_PM1A_CNT_BLK, pm.pm1ControlPort, PM1_CONTROL_BYTES);
  setPortAddress(data, Fadt.X_PM_TMR_BLK, pm.pmTimerPort, PM_TIMER_BYTES);
  if (pm.gpe0Port !== undefined) {
    data.setUint32(Fadt.GPE0_BLK, pm.gpe0Port, true);
    data.setUint8(Fadt.GPE0_BLK_LEN, GPE0_BYTES);
    setPortAddress(data, Fadt.X_GPE0_BLK, pm.gpe0Port, GPE0_BYTES, 1);
  }
  setPortAddress(data, Fadt.RESET_REG, pm.resetPort, 1);
  data.setUint8(Fadt.RESET_VALUE, pm.resetValue);
}

/** Generic address structure in system I/O space (§5.2.3.2). */
function setPortAddress(
  data: DataView,
  offset: number,
  port: number,
  bytes: number,
  accessBytes = bytes,
): void {
  const SYSTEM_IO = 1;
  data.setUint8(offset, SYSTEM_IO);
  data.setUint8(offset + 1, bytes * 8);
  data.setUint8(offset + 3, accessSize(accessBytes));
  data.setBigUint64(offset + 4, BigInt(port), true);
}

/** 1 byte, 2 word, 3 double word. */
function accessSize(bytes: number): number {
  return Math.log2(bytes) + 1;
}
