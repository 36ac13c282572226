import { noUnit } from "./inquiry.ts";
import type { Answer, LogicalUnit, ScsiData } from "./logical-unit.ts";
import { be32, Op, SENSE, u16, u32 } from "./scsi.ts";

/** Smallest allocation length of REPORT LUNS (SPC-4 §6.33). */
const LEAST_REPORT = 16;

/** Carries out a command for unit `lun` of a target whose only unit is `unit`, number 0. */
export function execute(unit: LogicalUnit, lun: number, cdb: Uint8Array, data: ScsiData): Answer {
  const answer = lun === 0 ? forUnit(unit, cdb, data) : forNobody(cdb);
  if (!(answer instanceof Uint8Array)) return answer;
  return answer.subarray(0, Math.min(allocationLength(cdb), data.inLength));
}

function forUnit(unit: LogicalUnit, cdb: Uint8Array, data: ScsiData): Answer {
  switch (cdb[0]) {
    case Op.REPORT_LUNS:
      return reportLuns(cdb);
    case Op.REQUEST_SENSE: {
      const { attention = SENSE.NONE } = unit;
      unit.attention = undefined;
      return attention.bytes;
    }
    case Op.INQUIRY:
    case Op.GET_CONFIGURATION:
    case Op.GET_EVENT_STATUS:
      return unit.execute(cdb, data); // do not hear of unit attentions
    default: {
      const { attention } = unit;
      if (attention === undefined) return unit.execute(cdb, data);
      unit.attention = undefined;
      return attention;
    }
  }
}

/** What a target says for a unit that it does not have (SPC-4 §5.12). */
function forNobody(cdb: Uint8Array): Answer {
  switch (cdb[0]) {
    case Op.INQUIRY:
      return noUnit;
    case Op.REPORT_LUNS:
      return reportLuns(cdb);
    case Op.REQUEST_SENSE:
      return SENSE.NO_SUCH_UNIT.bytes;
    default:
      return SENSE.NO_SUCH_UNIT;
  }
}

function reportLuns(cdb: Uint8Array): Answer {
  if ((cdb[2] ?? 0) > 2 || u32(cdb, 6) < LEAST_REPORT) return SENSE.INVALID_FIELD;
  const hasUnit = cdb[2] !== 1; // 1: well-known units only, of which there are none
  return Uint8Array.from([
    ...be32(hasUnit ? 8 : 0),
    ...be32(0),
    ...(hasUnit ? [0, 0, 0, 0, 0, 0, 0, 0] : []),
  ]);
}

/** How much of its answer a command wants. */
function allocationLength(cdb: Uint8Array): number {
  switch (cdb[0]) {
    case Op.REQUEST_SENSE:
    case Op.MODE_SENSE_6:
      return cdb[4] ?? 0;
    case Op.INQUIRY:
      return u16(cdb, 3);
    case Op.READ_CAPACITY_10:
      return 8;
    case Op.SERVICE_ACTION_IN_16:
      return u32(cdb, 10);
    case Op.REPORT_LUNS:
      return u32(cdb, 6);
    default:
      return u16(cdb, 7);
  }
}
