/** SCSI, as far as the units here speak it. Names and numbers: SPC-4, SBC-3 and MMC-6. */

/** Operation codes. */
export const Op = {
  TEST_UNIT_READY: 0x00,
  REQUEST_SENSE: 0x03,
  READ_6: 0x08,
  WRITE_6: 0x0a,
  INQUIRY: 0x12,
  MODE_SENSE_6: 0x1a,
  START_STOP_UNIT: 0x1b,
  PREVENT_ALLOW_MEDIUM_REMOVAL: 0x1e,
  READ_CAPACITY_10: 0x25,
  READ_10: 0x28,
  WRITE_10: 0x2a,
  VERIFY_10: 0x2f,
  SYNCHRONIZE_CACHE_10: 0x35,
  WRITE_SAME_10: 0x41,
  UNMAP: 0x42,
  READ_TOC: 0x43,
  GET_CONFIGURATION: 0x46,
  GET_EVENT_STATUS: 0x4a,
  READ_DISC_INFORMATION: 0x51,
  MODE_SENSE_10: 0x5a,
  READ_16: 0x88,
  WRITE_16: 0x8a,
  VERIFY_16: 0x8f,
  SYNCHRONIZE_CACHE_16: 0x91,
  WRITE_SAME_16: 0x93,
  SERVICE_ACTION_IN_16: 0x9e,
  REPORT_LUNS: 0xa0,
  READ_12: 0xa8,
  WRITE_12: 0xaa,
} as const;

export const READ_CAPACITY_16_ACTION = 0x10;

export const Status = { GOOD: 0x00, CHECK_CONDITION: 0x02 } as const;

/** Sense data: key, additional code and its qualifier (SPC-4 §4.5). */
export class Sense {
  readonly key: number;
  readonly asc: number;
  readonly ascq: number;

  constructor(key: number, asc: number, ascq = 0) {
    this.key = key;
    this.asc = asc;
    this.ascq = ascq;
  }

  /** In fixed format (SPC-4 §4.5.3). */
  get bytes(): Uint8Array {
    const bytes = new Uint8Array(18);
    bytes[0] = 0x70; // current error
    bytes[2] = this.key;
    bytes[7] = bytes.length - 8;
    bytes[12] = this.asc;
    bytes[13] = this.ascq;
    return bytes;
  }
}

type SenseName =
  | "NONE"
  | "MEDIUM_NOT_PRESENT"
  | "TRAY_OPEN"
  | "WRITE_ERROR"
  | "READ_ERROR"
  | "PARAMETER_LIST_LENGTH"
  | "INVALID_OPERATION"
  | "OUT_OF_RANGE"
  | "INVALID_FIELD"
  | "NO_SUCH_UNIT"
  | "INVALID_PARAMETER"
  | "SAVING_NOT_SUPPORTED"
  | "REMOVAL_PREVENTED"
  | "MEDIUM_CHANGED"
  | "POWER_ON"
  | "RESET"
  | "CAPACITY_CHANGED"
  | "WRITE_PROTECTED"
  | "SPACE_ALLOCATION";

export const SENSE: Readonly<Record<SenseName, Sense>> = {
  NONE: new Sense(0x0, 0x00),
  MEDIUM_NOT_PRESENT: new Sense(0x2, 0x3a),
  TRAY_OPEN: new Sense(0x2, 0x3a, 0x02),
  WRITE_ERROR: new Sense(0x3, 0x0c),
  READ_ERROR: new Sense(0x3, 0x11),
  PARAMETER_LIST_LENGTH: new Sense(0x5, 0x1a),
  INVALID_OPERATION: new Sense(0x5, 0x20),
  OUT_OF_RANGE: new Sense(0x5, 0x21),
  INVALID_FIELD: new Sense(0x5, 0x24),
  NO_SUCH_UNIT: new Sense(0x5, 0x25),
  INVALID_PARAMETER: new Sense(0x5, 0x26),
  SAVING_NOT_SUPPORTED: new Sense(0x5, 0x39),
  REMOVAL_PREVENTED: new Sense(0x5, 0x53, 0x02),
  MEDIUM_CHANGED: new Sense(0x6, 0x28),
  POWER_ON: new Sense(0x6, 0x29),
  RESET: new Sense(0x6, 0x29, 0x03),
  CAPACITY_CHANGED: new Sense(0x6, 0x2a, 0x09),
  WRITE_PROTECTED: new Sense(0x7, 0x27),
  SPACE_ALLOCATION: new Sense(0x7, 0x27, 0x07),
};

export const DeviceType = { DISK: 0x00, CD_ROM: 0x05, NONE: 0x7f } as const;

export const VENDOR = "NBRIDGE ";
export const REVISION = "1   ";
/** SPC-4, as INQUIRY's version says it. */
export const VERSION = 0x06;

/** Vital product data pages (SPC-4 §7.8, SBC-3 §6.5). */
export const Vpd = {
  SUPPORTED: 0x00,
  SERIAL: 0x80,
  IDENTIFICATION: 0x83,
  BLOCK_LIMITS: 0xb0,
  BLOCK_CHARACTERISTICS: 0xb1,
  PROVISIONING: 0xb2,
} as const;

/** Mode pages (SPC-4 §7.5, SBC-3 §6.4, MMC-6 §7). */
export const ModePage = {
  ERROR_RECOVERY: 0x01,
  CACHING: 0x08,
  CONTROL: 0x0a,
  CAPABILITIES: 0x2a,
  ALL: 0x3f,
} as const;

export const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
export const u32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) * 0x1_0000 + u16(bytes, at + 2);
/** As a number: exact up to 2^53, and too large for any unit beyond. */
export const u64 = (bytes: Uint8Array, at: number): number => u32(bytes, at) * 2 ** 32 + u32(bytes, at + 4);

export const be16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
export const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value)];
export const be64 = (value: number): number[] => [...be32(Math.floor(value / 2 ** 32)), ...be32(value >>> 0)];
export const ascii = (text: string, length: number): number[] =>
  Array.from({ length }, (_, i) => (i < text.length ? text.charCodeAt(i) & 0x7f : 0x20));
