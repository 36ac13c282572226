import type { Clause } from "./clause.ts";
import { type ClauseDriver, violated } from "./clause-driver.ts";
import type { ProbeRequest, VirtioTarget } from "./target.ts";

/** Names and numbers of virtio 1.3 §5.2, once more: a wrong one in the device's own table would agree with itself. */
const Type = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
const Answer = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;
const Feature = { RO: 5, FLUSH: 9, CONFIG_WCE: 11, DISCARD: 13, WRITE_ZEROES: 14 } as const;
const SECTOR = 512;
const CONFIG_BYTES = 60;

function request(type: number, sector: number, data: Uint8Array, room: number): ProbeRequest {
  const readable = new Uint8Array(16 + data.length);
  const view = new DataView(readable.buffer);
  view.setUint32(0, type, true);
  view.setUint32(8, sector >>> 0, true);
  view.setUint32(12, Math.floor(sector / 2 ** 32), true);
  readable.set(data, 16);
  return { queue: 0, readable, writable: room + 1 };
}

function range(sector: number, sectors: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, sector, true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
}

const none = new Uint8Array(0);
const statusOf = (answer: Uint8Array): number => answer.at(-1) ?? -1;

/** Reads the first sector. */
export const blockProbe: ProbeRequest = {
  ...request(Type.IN, 0, none, SECTOR),
  check: (answer) => (statusOf(answer) === Answer.OK ? undefined : `status ${statusOf(answer)} of a read`),
};

async function statusFor(driver: ClauseDriver, what: ProbeRequest): Promise<number> {
  return statusOf((await driver.request(what)).answer);
}

async function expectStatus(
  driver: ClauseDriver,
  what: ProbeRequest,
  expected: readonly number[],
): Promise<void> {
  const status = await statusFor(driver, what);
  if (!expected.includes(status)) violated(`status ${status}, expected ${expected.join(" or ")}`);
}

async function read(driver: ClauseDriver, sector: number, sectors: number): Promise<Uint8Array> {
  const { answer } = await driver.request(request(Type.IN, sector, none, sectors * SECTOR));
  if (statusOf(answer) !== Answer.OK) violated(`status ${statusOf(answer)} of a read`);
  return answer.subarray(0, sectors * SECTOR);
}

const pattern = (seed: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed) & 0xff);

/** What the configuration space says, in sectors. */
async function capacityOf(target: VirtioTarget, skip: (note: string) => never): Promise<number> {
  const config = await target.config(8);
  if (config === undefined) return skip("the transport shows no capacity");
  const view = new DataView(config.buffer, config.byteOffset);
  return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
}

/** Clauses of §5.2. The first 64 sectors of a disk that can be written are overwritten. */
export const blockClauses: readonly Clause[] = [
  {
    section: "5.2.5.2",
    says: "devices MUST offer VIRTIO_BLK_F_FLUSH if they offer VIRTIO_BLK_F_CONFIG_WCE",
    run: ({ target }) => {
      if (target.offered.has(Feature.CONFIG_WCE) && !target.offered.has(Feature.FLUSH))
        violated("FLUSH is missing");
      return Promise.resolve();
    },
  },
  {
    section: "5.2.5.2",
    says: "the device MUST initialize padding bytes unused0 and unused1 to 0",
    run: async ({ target, skip }) => {
      const config = await target.config(CONFIG_BYTES);
      if (config === undefined) skip("the transport shows no configuration space");
      const padding = [config?.[33], config?.[57], config?.[58], config?.[59]];
      if (padding.some((byte) => byte !== 0)) violated(`padding ${padding.join()}`);
    },
  },
  {
    section: "5.2.5.2",
    says: "if CONFIG_WCE is negotiated but FLUSH is not, the device MUST initialize writeback to 0",
    run: async ({ target, start, skip }) => {
      if (!target.offered.has(Feature.CONFIG_WCE)) skip("CONFIG_WCE is not offered");
      await start({ without: [Feature.FLUSH] });
      const writeback = (await target.config(CONFIG_BYTES))?.[32];
      if (writeback !== 0) violated(`writeback ${writeback}`);
    },
  },
  {
    section: "5.2.6.2",
    says: "a device MUST set status to IOERR for a write request if RO is offered, and MUST NOT write any data",
    run: async ({ target, start, skip }) => {
      if (!target.offered.has(Feature.RO)) skip("the disk can be written");
      const driver = await start();
      const before = await read(driver, 0, 1);
      await expectStatus(driver, request(Type.OUT, 0, pattern(1, SECTOR), 0), [Answer.IOERR]);
      if ((await read(driver, 0, 1)).join() !== before.join()) violated("data was written");
    },
  },
  {
    section: "5.2.6",
    says: "what was written is read, from the sectors it was written to and from no others",
    run: async ({ target, start, skip }) => {
      if (target.offered.has(Feature.RO)) skip("the disk is read-only");
      const driver = await start();
      await expectStatus(driver, request(Type.OUT, 0, pattern(0, 16 * SECTOR), 0), [Answer.OK]);
      await expectStatus(driver, request(Type.OUT, 3, pattern(99, 2 * SECTOR), 0), [Answer.OK]);
      const expected = pattern(0, 16 * SECTOR);
      expected.set(pattern(99, 2 * SECTOR), 3 * SECTOR);
      if ((await read(driver, 0, 16)).join() !== expected.join()) violated("other data came back");
    },
  },
  {
    section: "5.2.6",
    says: "a request the device does not know ends with UNSUPP",
    run: async ({ start }) => {
      await expectStatus(await start(), request(0x7f, 0, none, 0), [Answer.UNSUPP]);
    },
  },
  {
    section: "5.2.6",
    says: "a read or write behind the capacity does not succeed",
    run: async ({ target, start, skip }) => {
      const capacity = await capacityOf(target, skip);
      const driver = await start();
      const failures = [Answer.IOERR, Answer.UNSUPP];
      await expectStatus(driver, request(Type.IN, capacity, none, SECTOR), failures);
      await expectStatus(driver, request(Type.IN, capacity - 1, none, 2 * SECTOR), failures);
      await expectStatus(driver, request(Type.OUT, capacity, pattern(5, SECTOR), 0), failures);
      await expectStatus(driver, request(Type.IN, 2 ** 52, none, SECTOR), failures);
    },
  },
  {
    section: "5.2.6",
    says: "the last sector, and all up to it, can be read",
    run: async ({ target, start, skip }) => {
      const capacity = await capacityOf(target, skip);
      const driver = await start();
      await read(driver, capacity - 1, 1);
      const sectors = Math.min(capacity, 16);
      await read(driver, capacity - sectors, sectors);
    },
  },
  {
    section: "5.2.6.1",
    says: "a read whose length is not a multiple of 512 bytes, as it MUST be, does not succeed",
    run: async ({ start }) => {
      const driver = await start();
      const failures = [Answer.IOERR, Answer.UNSUPP];
      for (const room of [SECTOR / 2, SECTOR - 1, SECTOR + 1])
        await expectStatus(driver, request(Type.IN, 0, none, room), failures);
    },
  },
  {
    section: "5.2.6",
    says: "a flush succeeds where FLUSH is negotiated",
    run: async ({ start, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.FLUSH)) skip("FLUSH is not offered");
      await expectStatus(driver, request(Type.FLUSH, 0, none, 0), [Answer.OK]);
    },
  },
  {
    section: "5.2.6.2",
    says: "the device MUST set status to UNSUPP for discard and write zeroes commands if any unknown flag is set",
    run: async ({ start, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.DISCARD) && !driver.has(Feature.WRITE_ZEROES)) skip("neither is offered");
      if (driver.has(Feature.DISCARD)) {
        await expectStatus(driver, request(Type.DISCARD, 0, range(0, 8, 0x2), 0), [Answer.UNSUPP]);
      }
      if (driver.has(Feature.WRITE_ZEROES)) {
        await expectStatus(driver, request(Type.WRITE_ZEROES, 0, range(0, 8, 0x2), 0), [Answer.UNSUPP]);
      }
    },
  },
  {
    section: "5.2.6.2",
    says: "the device MUST set status to UNSUPP for discard commands if the unmap flag is set",
    run: async ({ start, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.DISCARD)) skip("DISCARD is not offered");
      await expectStatus(driver, request(Type.DISCARD, 0, range(0, 8, 0x1), 0), [Answer.UNSUPP]);
    },
  },
  {
    section: "5.2.6.2",
    says: "after a write zeroes command, reads of the specified ranges MUST return zeroes, unmap set or clear",
    run: async ({ target, start, skip }) => {
      const driver = await start();
      if (!driver.has(Feature.WRITE_ZEROES) || target.offered.has(Feature.RO))
        skip("WRITE_ZEROES is not offered");
      for (const unmap of [0, 1]) {
        await expectStatus(driver, request(Type.OUT, 0, pattern(3, 24 * SECTOR), 0), [Answer.OK]);
        await expectStatus(driver, request(Type.WRITE_ZEROES, 0, range(8, 8, unmap), 0), [Answer.OK]);
        const expected = pattern(3, 24 * SECTOR).fill(0, 8 * SECTOR, 16 * SECTOR);
        if ((await read(driver, 0, 24)).join() !== expected.join())
          violated(`other data came back, unmap ${unmap}`);
      }
    },
  },
  {
    section: "5.2.6",
    says: "GET_ID answers 20 bytes: ASCII, padded with NUL",
    run: async ({ start, skip }) => {
      const driver = await start();
      const { answer } = await driver.request(request(Type.GET_ID, 0, none, 20));
      if (statusOf(answer) === Answer.UNSUPP) skip("the device has no ID");
      if (statusOf(answer) !== Answer.OK) violated(`status ${statusOf(answer)}`);
      const id = answer.subarray(0, 20);
      const end = id.indexOf(0);
      if (end >= 0 && id.subarray(end).some((byte) => byte !== 0)) violated(`ID ${id.join()}`);
    },
  },
];
