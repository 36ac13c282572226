import { be16, be32, ModePage, Op, SENSE, type Sense } from "./scsi.ts";

/** What MODE SENSE says of a unit. */
export interface ModeParameters {
  /** The device-specific parameter of the header. */
  readonly deviceSpecific: number;
  /** A short block descriptor, where there is a medium of fixed blocks. */
  readonly blocks?: { readonly count: number; readonly size: number };
  /** Pages by code, without their first two bytes. */
  readonly pages: ReadonlyMap<number, readonly number[]>;
}

/** The control mode page (SPC-4 §7.5.8): full task management, no automatic contingent allegiance. */
export const CONTROL_PAGE: readonly number[] = [0x02, 0x10, 0, 0, 0, 0, ...be16(0xffff), 0, 0];

const CHANGEABLE = 1;
const SAVED = 3;

/** The answer to MODE SENSE (6) and (10) (SPC-4 §6.11). Nothing can be changed or saved. */
export function modeSense(cdb: Uint8Array, parameters: ModeParameters): Uint8Array | Sense {
  const isLong = cdb[0] === Op.MODE_SENSE_10;
  const control = (cdb[2] ?? 0) >> 6;
  const code = (cdb[2] ?? 0) & 0x3f;
  const subpage = cdb[3] ?? 0;
  if (control === SAVED) return SENSE.SAVING_NOT_SUPPORTED;
  if (subpage !== 0 && !(code === ModePage.ALL && subpage === 0xff)) return SENSE.INVALID_FIELD;
  const { pages, blocks } = parameters;
  const wanted = code === ModePage.ALL ? [...pages.keys()].sort((a, b) => a - b) : [code];
  const body: number[] = [];
  for (const each of wanted) {
    const page = pages.get(each);
    if (page === undefined) return SENSE.INVALID_FIELD;
    body.push(each, page.length, ...(control === CHANGEABLE ? page.map(() => 0) : page));
  }
  const hasBlocks = blocks !== undefined && ((cdb[1] ?? 0) & 0x08) === 0; // DBD
  const descriptor = hasBlocks
    ? [...be32(Math.min(blocks.count, 0xffff_ffff)), ...be32(blocks.size & 0xff_ffff)]
    : [];
  const rest = [...descriptor, ...body];
  const header = isLong
    ? [...be16(rest.length + 6), 0, parameters.deviceSpecific, 0, 0, ...be16(descriptor.length)]
    : [Math.min(rest.length + 3, 0xff), 0, parameters.deviceSpecific, descriptor.length];
  return Uint8Array.from([...header, ...rest]);
}
