import type { Clause } from "./clause.ts";
import { violated } from "./clause-driver.ts";
import type { ProbeRequest } from "./target.ts";

const SENSE = 96;
/** struct virtio_scsi_req_cmd: what the device writes in front of the data (virtio 1.3 §5.6.6.1). */
const Answer = { SENSE_LENGTH: 0, STATUS: 10, RESPONSE: 11, DATA: 12 + SENSE } as const;
const Response = { OK: 0, OVERRUN: 1, BAD_TARGET: 3, FAILURE: 9 } as const;
const Status = { GOOD: 0, CHECK_CONDITION: 2 } as const;
const CONFIG_BYTES = 36;

/** @param dataIn room for data */
function command(target: number, cdb: readonly number[], dataIn: number): ProbeRequest {
  const readable = new Uint8Array(19 + 32);
  readable.set([1, target, 0x40, 0], 0);
  readable.set(cdb, 19);
  return { queue: 2, readable, writable: Answer.DATA + dataIn };
}

/** REPORT LUNS, which every target answers (SPC-4 §6.33). */
const reportLuns = (target: number, allocated: number, dataIn: number): ProbeRequest =>
  command(target, [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, allocated], dataIn);

export const scsiProbe: ProbeRequest = {
  ...reportLuns(0, 16, 16),
  check: (answer) =>
    answer[Answer.RESPONSE] === Response.OK ? undefined : `response ${answer[Answer.RESPONSE]}`,
};

/** Clauses of §5.6. Target 0 is there. */
export const scsiClauses: readonly Clause[] = [
  {
    section: "5.6.4.2",
    says: "on reset, the device MUST set sense_size to 96 and cdb_size to 32",
    run: async ({ target, skip }) => {
      const config = await target.config(CONFIG_BYTES);
      if (config === undefined) skip("the transport shows no configuration space");
      const view = new DataView((config ?? new Uint8Array(CONFIG_BYTES)).buffer);
      const [sense, cdb] = [view.getUint32(20, true), view.getUint32(24, true)];
      if (sense !== SENSE || cdb !== 32) violated(`sense_size ${sense}, cdb_size ${cdb}`);
    },
  },
  {
    section: "5.6.6.1.1",
    says: "the device MUST write response BAD_TARGET if the target indicated by lun does not exist",
    run: async ({ start }) => {
      const driver = await start();
      const { answer } = await driver.request(reportLuns(254, 16, 16));
      if (answer[Answer.RESPONSE] !== Response.BAD_TARGET) violated(`response ${answer[Answer.RESPONSE]}`);
    },
  },
  {
    section: "5.6.6.1.1",
    says: "the device MUST write the status byte as the status code of SAM, and OK as the response of what completed",
    run: async ({ start }) => {
      const driver = await start();
      const good = await driver.request(reportLuns(0, 16, 16));
      if (good.answer[Answer.STATUS] !== Status.GOOD) violated(`status ${good.answer[Answer.STATUS]}`);
      const listed = new DataView(good.answer.buffer, good.answer.byteOffset + Answer.DATA).getUint32(0);
      if (listed === 0 || listed % 8 !== 0) violated(`${listed} bytes of logical units`);
      const { answer } = await driver.request(command(0, [0xff], 0)); // vendor-specific: nobody knows it
      if (answer[Answer.RESPONSE] !== Response.OK || answer[Answer.STATUS] !== Status.CHECK_CONDITION) {
        violated(
          `response ${answer[Answer.RESPONSE]}, status ${answer[Answer.STATUS]} of an unknown command`,
        );
      }
      if (answer[Answer.SENSE_LENGTH] === 0) violated("no sense data");
    },
  },
  {
    section: "5.6.6.1.1",
    says: "if neither dataout nor datain is empty, and INOUT has not been negotiated, the response is FAILURE",
    run: async ({ start }) => {
      const driver = await start({ without: [0] });
      const { readable, ...rest } = reportLuns(0, 16, 16);
      const longer = new Uint8Array(readable.length + 16);
      longer.set(readable);
      const { answer } = await driver.request({ ...rest, readable: longer });
      if (answer[Answer.RESPONSE] !== Response.FAILURE) violated(`response ${answer[Answer.RESPONSE]}`);
    },
  },
];
