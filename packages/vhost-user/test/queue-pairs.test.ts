import { LoopbackNet } from "@northbridge/core";
import { close, createMemfd, socketPair } from "@northbridge/linux";
import { VirtioNet } from "@northbridge/devices-virtio";
import { FeatureSet, SplitDriverQueue, virtioSpec } from "@northbridge/sdk/virtio";
import { expect, it } from "vitest";
import { VhostUserTarget } from "../src/conformance/index.ts";
import { DirtyLog } from "../src/backend/dirty-log.ts";
import { RegionTable } from "../src/backend/region-table.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { Request } from "../src/protocol/spec.ts";
import { createMemory } from "./devices.ts";
import { RawFrontEnd, turn } from "./raw-front-end.ts";

const isHere = process.platform === "linux" && process.arch === "x64";
// Virtio 1.3 §5.1.3.
const [CTRL_VQ, MQ] = [17, 22];
const SIZE = 8;
const BUFFER = 2048;
const MAC = [0x52, 0x54, 0, 0, 0, 7];

/** TCP over IPv4 from the card to itself. */
const frame = (port: number): Uint8Array => {
  const header = new Uint8Array(12);
  const ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1];
  const tcp = [port >> 8, port & 0xff, port >> 8, port & 0xff, ...new Array<number>(16).fill(0)];
  return Uint8Array.from([...header, ...MAC, ...MAC, 8, 0, ...ip, ...tcp]);
};

it.skipIf(!isHere)("serves as many queue pairs as its front end has switched on", async () => {
  const device = new VirtioNet({ backend: new LoopbackNet(), mac: Uint8Array.from(MAC), pairs: 2 });
  const [ours, theirs] = socketPair();
  const backend = new VhostUserBackend({ device, createMemory });
  void backend.serve(theirs);
  const front = new FrontEnd(ours);
  const target = await VhostUserTarget.over(front, [SIZE, SIZE, SIZE, SIZE]);
  expect([await front.queueNum(), target.offered.has(MQ), target.offered.has(CTRL_VQ)]).toEqual([
    2,
    true,
    false,
  ]);
  expect(await target.negotiate(FeatureSet.of([MQ, virtioSpec.Feature.VERSION_1]))).toBe(true);
  const { memory } = target;
  let gpa = memory.slots[0]?.gpa ?? 0;
  const queues: SplitDriverQueue[] = [];
  for (let index = 0; index < 4; index++) {
    const queue = new SplitDriverQueue({ memory, gpa, size: SIZE });
    gpa += 4096;
    await target.enableQueue(index, SIZE, queue.addresses);
    queues.push(queue);
  }
  await target.driverOk();
  const received = [0, 0];
  for (const index of [0, 2]) {
    for (let i = 0; i < SIZE; i++) queues[index]?.add([], [{ gpa: (gpa += BUFFER), length: BUFFER }]);
    target.notify(index);
  }
  gpa += BUFFER;
  /** Sends by a queue pair, and waits until it has come back by either. */
  const send = async (pair: number, port: number): Promise<void> => {
    const bytes = frame(port);
    memory.write(gpa, bytes);
    queues[2 * pair + 1]?.add([{ gpa, length: bytes.length }], []);
    target.notify(2 * pair + 1);
    const before = received[0]! + received[1]!;
    const isBack = (): boolean => {
      [0, 1].forEach((each) => (received[each]! += queues[2 * each]?.collect().length ?? 0));
      queues[2 * pair + 1]?.collect();
      return received[0]! + received[1]! > before;
    };
    expect(await target.until(isBack)).toBe(true);
  };
  // What belongs to a stream comes by the pair that the stream is sent by (§5.1.6.5.6).
  await send(0, 1000);
  await send(1, 2000);
  expect(received).toEqual([1, 1]);
  // Of a pair that is switched off the frames come by the other one.
  await front.enableRing(2, false);
  await front.enableRing(3, false);
  await send(0, 2000);
  expect(received).toEqual([2, 1]);
  await target.close();
  await backend.close();
});

it.skipIf(!isHere)(
  "has a region as long as it was added more often than removed, as QEMU does by pair",
  () => {
    const memfd = createMemfd("added twice", 1 << 16);
    const region = { gpa: 0, size: 1 << 16, userAddress: 1 << 20, mmapOffset: 0 };
    const log = new DirtyLog();
    const options = { createMemory, log, sealed: false };
    const added = (table: RegionTable, what = region): RegionTable => {
      const next = table.with(what, memfd, options);
      if (typeof next === "string") throw new Error(next);
      return next;
    };
    const twice = added(added(RegionTable.empty(createMemory, log)));
    expect([twice.count, twice.memory.slots.length]).toEqual([1, 1]);
    expect(twice.with({ ...region, gpa: 4096 }, memfd, options)).toBe("regionOverlap");
    const once = twice.without(region, createMemory, log);
    expect([once?.count, once?.gpaOf(1 << 20)]).toEqual([1, 0]);
    const none = once?.without(region, createMemory, log);
    expect([none?.count, none?.without(region, createMemory, log)]).toEqual([0, undefined]);
    twice.unmapUnless(undefined);
    close(memfd);
  },
);

it.skipIf(!isHere)("takes every region it says there may be, each once for every queue pair", async () => {
  const PAGE = 4096;
  const [NEED_REPLY, REPLY_ACK] = [8, 1 << 3];
  const words = (...values: readonly number[]): Uint8Array =>
    new Uint8Array(BigUint64Array.from(values, BigInt).buffer);
  const [device, front] = [
    new VirtioNet({ backend: new LoopbackNet(), mac: Uint8Array.from(MAC), pairs: 2 }),
    new RawFrontEnd(),
  ];
  const backend = new VhostUserBackend({ device, createMemory });
  const served = backend.serve(front.theirs);
  const ask = async (request: number, payload?: Uint8Array, fds?: readonly number[]): Promise<number> => {
    front.send(request, payload, fds, NEED_REPLY);
    for (;;) {
      const [answer] = front.received();
      if (answer !== undefined) return new DataView(answer.buffer, answer.byteOffset).getUint32(0, true);
      await turn();
    }
  };
  front.send(Request.SET_PROTOCOL_FEATURES, words(REPLY_ACK));
  const most = await ask(Request.GET_MAX_MEM_SLOTS);
  const memfd = createMemfd("many regions", (most + 1) * PAGE);
  const add = (index: number): Promise<number> =>
    ask(Request.ADD_MEM_REG, words(0, index * PAGE, PAGE, (1 << 30) + index * PAGE, index * PAGE), [memfd]);
  const answers: number[] = [];
  for (let pair = 0; pair < 2; pair++)
    for (let region = 0; region < most; region++) answers.push(await add(region));
  expect(answers).toEqual(new Array<number>(2 * most).fill(0));
  expect(await add(most)).toBe(1);
  close(memfd);
  front.close();
  await served;
  await backend.close();
});
