import { FakeClock, FakeDisk, FakeMemory, VirtioBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { expect, it } from "vitest";
import { loadContent } from "./load-content.ts";
import { settle } from "../../test/driven/held-answers.ts";
import { VirtioPmem } from "./virtio-pmem.ts";

const PAGE = 4096;
const PAGES = 64;

async function setup(pages = PAGES) {
  const clock = new FakeClock();
  const disk = new FakeDisk(pages * PAGE);
  disk.bytes.forEach((_, i, bytes) => (bytes[i] = (i >> 12) + 1));
  const slot = {
    name: "pmem",
    gpa: 0x1_4000_0000,
    length: pages * PAGE,
    readOnly: false,
    bytes: new Uint8Array(pages * PAGE),
  };
  const content = await loadContent(slot, new FakeMemory(PAGE), disk, clock);
  const bench = new VirtioBench(new VirtioPmem({ slot, content })).start();
  disk.requests.length = 0;
  /** Puts a request into the queue: where its answer comes. */
  const offer = (type: number): number => {
    const header = bench.alloc(4);
    bench.memory.writeU32(header, type);
    const reply = bench.alloc(4);
    bench.queue(0).add([{ gpa: header, length: 4 }], [{ gpa: reply, length: 4 }]);
    bench.kick(0);
    return reply;
  };
  /** The `ret` of a request (virtio 1.3 §5.19.6). */
  const request = async (type: number): Promise<number> => {
    const reply = offer(type);
    for (let waits = 0; bench.queue(0).collect().length === 0; waits++) {
      expect(waits).toBeLessThan(10_000);
      await Promise.resolve();
    }
    return bench.memory.readU32(reply);
  };
  return { clock, disk, slot, bench, offer, request, flush: () => request(0) };
}

it("is where its configuration says, and holds what the file has", async () => {
  const { disk, slot, bench } = await setup();
  const word = (at: number): number => bench.endpoint.readConfig(at, 4);
  expect([word(0), word(4), word(8), word(12)]).toEqual([0x4000_0000, 1, PAGES * PAGE, 0]);
  expect(slot.bytes).toEqual(disk.bytes);
});

it("writes back what has changed, in runs, and nothing else", async () => {
  const { disk, slot, flush } = await setup();
  slot.bytes[3 * PAGE] = 0xaa;
  slot.bytes[5 * PAGE - 1] = 0xbb;
  slot.bytes[63 * PAGE + 7] = 0xcc;
  expect(await flush()).toBe(0);
  expect(disk.bytes).toEqual(slot.bytes);
  expect(
    disk.requests.map(({ operation, offset, length }) => [operation, offset / PAGE, length / PAGE]),
  ).toEqual([
    ["write", 3, 2],
    ["write", 63, 1],
    ["flush", 0, 0],
  ]);
});

it("says that a flush failed, and writes the same again at the next", async () => {
  const { disk, slot, flush } = await setup();
  slot.bytes[0] = 0x77;
  disk.failNext("EIO", { on: "write" });
  expect(await flush()).toBe(0xffff_ffff);
  disk.failNext("EIO", { on: "flush" });
  expect(await flush()).toBe(0xffff_ffff);
  expect(await flush()).toBe(0);
  expect(disk.bytes).toEqual(slot.bytes);
});

it("writes again what a failed write may have stored, though the guest has taken it back", async () => {
  const { disk, slot, flush } = await setup();
  const before = slot.bytes[5 * PAGE]!;
  slot.bytes[5 * PAGE] = before ^ 0xff;
  disk.failNext("EIO", { on: "write" });
  expect(await flush()).toBe(0xffff_ffff);
  disk.bytes[5 * PAGE] = before ^ 0xff; // the host had got so far
  slot.bytes[5 * PAGE] = before;
  expect(await flush()).toBe(0);
  expect(disk.bytes[5 * PAGE]).toBe(before);
});

it("fails what is no flush, and needs a reset after what is no request", async () => {
  const { bench, disk, request } = await setup();
  expect(await request(1)).toBe(0xffff_ffff);
  expect(disk.requests).toEqual([]);
  bench.queue(0).add([{ gpa: bench.alloc(4), length: 4 }], []);
  bench.kick(0);
  expect(bench.endpoint.status & 0x40).toBe(0x40);
});

it("has in the file after any flush what the memory had before it", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.array(fc.tuple(fc.nat(PAGES * PAGE - 1), fc.constantFrom(0, 1, 0x80, 0xff)), { maxLength: 20 }),
        {
          minLength: 1,
          maxLength: 5,
        },
      ),
      async (rounds) => {
        const { disk, slot, flush } = await setup();
        for (const writes of rounds) {
          for (const [at, value] of writes) slot.bytes[at] = value;
          expect(await flush()).toBe(0);
          expect(disk.bytes.every((byte, at) => byte === slot.bytes[at])).toBe(true);
        }
      },
    ),
    { numRuns: 30 },
  );
});

it("leaves memory to storage that can be mapped, and has nothing to write back", async () => {
  const disk = Object.assign(new FakeDisk(PAGE), { mapUnder: (bytes: Uint8Array) => bytes.length === PAGE });
  const slot = { name: "pmem", gpa: 0, length: PAGE, readOnly: false, bytes: new Uint8Array(PAGE) };
  const memory = new FakeMemory(PAGE);
  const content = await loadContent(slot, memory, disk, new FakeClock());
  expect(memory.writes).toEqual([{ gpa: 0, length: PAGE }]); // its bytes are others now
  slot.bytes[0] = 1;
  await content.flush();
  expect(disk.requests.map(({ operation }) => operation)).toEqual(["flush"]);
  expect(content.stats()).toEqual({ mapped: 1 });
});

const MIB_PAGES = 256;

it("looks through much memory in pieces, between which others have their turn", async () => {
  const { clock, disk, slot, bench, offer } = await setup(9 * MIB_PAGES);
  slot.bytes.fill(0x5a, 8 << 20);
  offer(0);
  let turns = 0;
  for (; bench.queue(0).collect().length === 0; turns++) {
    await settle();
    expect(disk.requests.some(({ operation }) => operation === "flush")).toBe(turns === 2);
    clock.advanceTo(clock.nextDeadlineNs() === Infinity ? clock.nowNs() : clock.nextDeadlineNs());
  }
  expect(turns).toBe(3);
  expect(disk.bytes.every((byte, at) => byte === slot.bytes[at])).toBe(true);
});

it("ends its flushes without more guest time where the machine is paused, and takes its time again later", async () => {
  const { clock, disk, slot, bench, offer } = await setup(9 * MIB_PAGES);
  slot.bytes.fill(0x5a);
  offer(0);
  offer(0);
  await settle();
  const flushes = (): number => disk.requests.filter(({ operation }) => operation === "flush").length;
  expect(flushes()).toBe(0);
  await bench.endpoint.pause();
  expect([flushes(), bench.queue(0).collect().length]).toEqual([2, 2]);
  expect(disk.bytes.every((byte) => byte === 0x5a)).toBe(true);
  bench.endpoint.resume();
  offer(0);
  await settle();
  expect([flushes(), clock.nextDeadlineNs()]).toEqual([2, clock.nowNs() + 1000]);
});
