import {
  ascii,
  be16,
  be32,
  be64,
  DeviceType,
  REVISION,
  SENSE,
  type Sense,
  VENDOR,
  VERSION,
  Vpd,
} from "./scsi.ts";

/** What INQUIRY says of a unit. */
export interface UnitIdentity {
  readonly type: number;
  /** Up to 16 characters. */
  readonly product: string;
  /** Up to 20 characters. */
  readonly serial: string;
  readonly isRemovable: boolean;
  /** Of disks: what the back end can do. */
  readonly provisioning?: { readonly canUnmap: boolean; readonly canWriteZeroes: boolean };
}

/** Limits of one UNMAP and one WRITE SAME command, in blocks. */
export const MAX_UNMAP_BLOCKS = 0x40_0000;
export const MAX_UNMAP_RANGES = 64;
export const MAX_WRITE_SAME_BLOCKS = 0x40_0000;

/** The answer to INQUIRY, standard data or a VPD page (SPC-4 §6.6). The caller cuts it to the allocation length. */
export function inquiry(cdb: Uint8Array, unit: UnitIdentity): Uint8Array | Sense {
  const isVpd = ((cdb[1] ?? 0) & 1) !== 0;
  const page = cdb[2] ?? 0;
  if (!isVpd) return page === 0 ? standard(unit) : SENSE.INVALID_FIELD;
  const body = vpd(page, unit);
  return body === undefined
    ? SENSE.INVALID_FIELD
    : Uint8Array.from([unit.type, page, ...be16(body.length), ...body]);
}

/** INQUIRY of a unit there is not (SPC-4 §6.6.2): no device of any type. */
export const noUnit: Uint8Array = Uint8Array.from([
  DeviceType.NONE,
  0,
  VERSION,
  0x02,
  31,
  ...new Array<number>(31).fill(0),
]);

function standard({ type, product, isRemovable }: UnitIdentity): Uint8Array {
  return Uint8Array.from([
    ...[type, isRemovable ? 0x80 : 0, VERSION, 0x12, 31, 0, 0, 0x02], // HISUP, format 2; CMDQUE
    ...ascii(VENDOR, 8),
    ...ascii(product, 16),
    ...ascii(REVISION, 4),
  ]);
}

function vpd(page: number, unit: UnitIdentity): number[] | undefined {
  const isDisk = unit.provisioning !== undefined;
  switch (page) {
    case Vpd.SUPPORTED:
      return [
        ...[Vpd.SUPPORTED, Vpd.SERIAL, Vpd.IDENTIFICATION],
        ...(isDisk ? [Vpd.BLOCK_LIMITS, Vpd.BLOCK_CHARACTERISTICS, Vpd.PROVISIONING] : []),
      ];
    case Vpd.SERIAL:
      return ascii(unit.serial, Math.max(unit.serial.length, 1));
    case Vpd.IDENTIFICATION:
      return [
        ...designator(0x02, 0x1, ascii(VENDOR + unit.serial, 8 + unit.serial.length)),
        ...naa(unit.serial),
      ];
    case Vpd.BLOCK_LIMITS:
      return isDisk ? blockLimits(unit) : undefined;
    case Vpd.BLOCK_CHARACTERISTICS:
      return isDisk ? [...be16(1), ...new Array<number>(58).fill(0)] : undefined; // does not rotate
    case Vpd.PROVISIONING:
      return isDisk ? provisioning(unit) : undefined;
    default:
      return undefined;
  }
}

/** A designator of the logical unit (SPC-4 §7.8.6). */
const designator = (codeSet: number, type: number, value: readonly number[]): number[] => [
  codeSet,
  type,
  0,
  value.length,
  ...value,
];

/** A locally assigned name of 64 bits (NAA 3), the same for one serial number (FNV-1a). */
function naa(serial: string): number[] {
  let [high, low] = [0x811c_9dc5, 0xc59d_1c81];
  for (let i = 0; i < serial.length; i++) {
    high = Math.imul(high ^ serial.charCodeAt(i), 0x0100_0193);
    low = Math.imul(low ^ high, 0x0100_0193);
  }
  return designator(0x01, 0x3, [...be32((high >>> 4) | 0x3000_0000), ...be32(low)]);
}

function blockLimits({ provisioning: can }: UnitIdentity): number[] {
  const canUnmap = can?.canUnmap === true;
  return [
    ...[0x01, 0], // WSNZ: WRITE SAME of no blocks is refused
    ...[...be16(0), ...be32(0), ...be32(0), ...be32(0)], // no limits of transfers
    ...be32(canUnmap ? MAX_UNMAP_BLOCKS : 0),
    ...be32(canUnmap ? MAX_UNMAP_RANGES : 0),
    ...[...be32(canUnmap ? 1 : 0), ...be32(0)],
    ...be64(MAX_WRITE_SAME_BLOCKS),
    ...new Array<number>(20).fill(0),
  ];
}

function provisioning({ provisioning: can }: UnitIdentity): number[] {
  const lbpu = can?.canUnmap === true ? 0x80 : 0;
  const lbpws = can?.canWriteZeroes === true ? 0x60 : 0; // LBPWS, LBPWS10
  return [0, lbpu | lbpws, lbpu === 0 ? 0 : 0x02, 0]; // thin
}
