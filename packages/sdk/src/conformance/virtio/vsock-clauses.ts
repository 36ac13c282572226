import type { Clause } from "./clause.ts";
import { type ClauseDriver, violated } from "./clause-driver.ts";
import type { ProbeRequest } from "./target.ts";

/** struct virtio_vsock_hdr (virtio 1.3 §5.10.6). */
const Header = { SRC_CID: 0, DST_CID: 8, SRC_PORT: 16, DST_PORT: 20, TYPE: 28, OP: 30, LENGTH: 44 } as const;
const Op = { REQUEST: 1, RST: 3, RW: 5 } as const;
const HOST = 2;
const STREAM = 1;
const PORTS = [1234, 77] as const;
/** One connection's ports as nobody listens to them. */
const RESERVED: readonly number[] = [0, 1, 2, 0xffff_ffff];

function packet(source: number, type: number, op: number): ProbeRequest {
  const readable = new Uint8Array(Header.LENGTH);
  const view = new DataView(readable.buffer);
  view.setUint32(Header.SRC_CID, source, true);
  view.setUint32(Header.DST_CID, HOST, true);
  view.setUint32(Header.SRC_PORT, PORTS[0], true);
  view.setUint32(Header.DST_PORT, PORTS[1], true);
  view.setUint16(Header.TYPE, type, true);
  view.setUint16(Header.OP, op, true);
  return { queue: 1, readable, writable: 0 };
}

/** A reset of a connection that is none. */
export const vsockProbe: ProbeRequest = packet(0, STREAM, Op.RST);

/** Sends a packet and expects to be told that there is no such connection. */
async function expectReset(driver: ClauseDriver, cid: number, type: number, op: number): Promise<void> {
  const room = driver.offer({ queue: 0, readable: new Uint8Array(0), writable: 4096 });
  await driver.request(packet(cid, type, op));
  const { answer, written } = await driver.finish(room);
  if (written < Header.LENGTH) violated(`a packet of ${written} bytes`);
  const view = new DataView(answer.buffer, answer.byteOffset);
  if (view.getUint16(Header.OP, true) !== Op.RST) violated(`op ${view.getUint16(Header.OP, true)}`);
  const ports = [view.getUint32(Header.DST_PORT, true), view.getUint32(Header.SRC_PORT, true)];
  const cids = [view.getUint32(Header.SRC_CID, true), view.getUint32(Header.DST_CID, true)];
  if (ports.join() !== PORTS.join() || cids.join() !== [HOST, cid].join())
    violated(`a reset from ${cids.join()} of ports ${ports.join()}`);
}

/** Clauses of §5.10. */
export const vsockClauses: readonly Clause[] = [
  {
    section: "5.10.6.4.2",
    says: "the guest_cid configuration field MUST NOT contain a reserved CID, and its upper 32 bits are zero",
    run: async ({ target, skip }) => {
      const config = await target.config(8);
      if (config === undefined) skip("the transport shows no configuration space");
      const view = new DataView((config ?? new Uint8Array(8)).buffer);
      if (RESERVED.includes(view.getUint32(0, true)) || view.getUint32(4, true) !== 0)
        violated(`guest_cid ${config?.join()}`);
    },
  },
  {
    section: "5.10.6.4.2",
    says: "a RST reply MUST be sent if a packet is received with an unknown type value",
    run: async ({ target, start, skip }) => {
      const config = await target.config(8);
      if (config === undefined) skip("the transport shows no configuration space");
      const cid = new DataView((config ?? new Uint8Array(8)).buffer).getUint32(0, true);
      await expectReset(await start(), cid, 7, Op.RW);
    },
  },
  {
    section: "5.10.6.5",
    says: "a RST reply is sent if a listening socket does not exist on the destination",
    run: async ({ target, start, skip }) => {
      const config = await target.config(8);
      if (config === undefined) skip("the transport shows no configuration space");
      const cid = new DataView((config ?? new Uint8Array(8)).buffer).getUint32(0, true);
      await expectReset(await start(), cid, STREAM, Op.REQUEST);
    },
  },
  {
    section: "5.10.6.1.2",
    says: "the tx virtqueue MUST be processed even when the rx virtqueue is full",
    run: async ({ target, start, skip }) => {
      const config = await target.config(8);
      if (config === undefined) skip("the transport shows no configuration space");
      const cid = new DataView((config ?? new Uint8Array(8)).buffer).getUint32(0, true);
      const driver = await start();
      for (let i = 0; i < 8; i++) await driver.request(packet(cid, STREAM, Op.REQUEST));
    },
  },
];
