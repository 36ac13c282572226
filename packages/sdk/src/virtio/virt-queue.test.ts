import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DriverQueue, FakeMemory, PackedDriverQueue, SplitDriverQueue } from "../testing/index.ts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { DeviceQueue } from "./device-queue.ts";
import { FeatureSet } from "./feature-set.ts";
import { type QueueFault, serve, type VirtQueue } from "./virt-queue.ts";

// From the data sheet, not from our constants (virtio 1.3 §6, §2.7.5).
const INDIRECT_DESC = 28;
const EVENT_IDX = 29;
const RING_PACKED = 34;
const IN_ORDER = 35;
const RINGS = 0x1000;
const TABLES = 0x8000;
const BUFFERS = 0x10000;

interface Rig {
  readonly memory: FakeMemory;
  readonly driver: DriverQueue;
  queue: VirtQueue;
  interrupts: number;
  readonly faults: QueueFault[];
  /** The same device side, anew. */
  remake(): VirtQueue;
}

function rig(
  kind: "split" | "packed",
  options: { size?: number; eventIdx?: boolean; indirect?: boolean; inOrder?: boolean } = {},
): Rig {
  const { size = 8, eventIdx = false, indirect = true, inOrder = false } = options;
  const memory = new FakeMemory(1 << 20);
  const Driver = kind === "split" ? SplitDriverQueue : PackedDriverQueue;
  const driver = new Driver({ memory, gpa: RINGS, size, eventIdx });
  const features = FeatureSet.of([
    ...(eventIdx ? [EVENT_IDX] : []),
    ...(indirect ? [INDIRECT_DESC] : []),
    ...(kind === "packed" ? [RING_PACKED] : []),
    ...(inOrder ? [IN_ORDER] : []),
  ]);
  const made: Rig = {
    memory,
    driver,
    interrupts: 0,
    faults: [],
    remake: () =>
      new DeviceQueue({
        size,
        addresses: driver.addresses,
        features,
        memory,
        request: () => undefined,
        interrupt: () => {
          made.interrupts++;
        },
        fail: (fault) => {
          made.faults.push(fault);
        },
      }),
    queue: undefined as unknown as VirtQueue,
  };
  made.queue = made.remake();
  return made;
}

const pattern = (seed: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (seed * 37 + i) & 0xff);

describe.each(["split", "packed"] as const)("the device's side of a %s queue", (kind) => {
  it("hands a request over and back", () => {
    const { memory, driver, queue } = rig(kind);
    memory.write(BUFFERS, pattern(1, 100));
    const id = driver.add(
      [
        { gpa: BUFFERS, length: 60 },
        { gpa: BUFFERS + 60, length: 40 },
      ],
      [
        { gpa: BUFFERS + 0x100, length: 3 },
        { gpa: BUFFERS + 0x200, length: 50 },
      ],
    );
    const chain = queue.pop()!;
    expect([chain.readableBytes, chain.writableBytes]).toEqual([100, 53]);
    const bytes = new Uint8Array(100);
    expect(chain.read(0, bytes)).toBe(100);
    expect(bytes).toEqual(pattern(1, 100));
    expect(chain.readU32(58)).toBe(new DataView(pattern(1, 100).buffer).getUint32(58, true));
    expect(chain.write(0, pattern(2, 60))).toBe(53);
    queue.push(chain, 53);
    expect(driver.collect()).toEqual(kind === "split" ? [] : [{ id, written: 53 }]);
    queue.flush();
    if (kind === "split") expect(driver.collect()).toEqual([{ id, written: 53 }]);
    expect(memory.view(BUFFERS + 0x100, 3)).toEqual(pattern(2, 60).subarray(0, 3));
    expect(memory.view(BUFFERS + 0x200, 50)).toEqual(pattern(2, 60).subarray(3, 53));
    expect(queue.pop()).toBeUndefined();
  });

  it("reports the pages it wrote to", () => {
    const { memory, driver, queue } = rig(kind);
    driver.add(
      [],
      [
        { gpa: BUFFERS, length: 10 },
        { gpa: BUFFERS + 0x3000, length: 10 },
      ],
    );
    memory.writes.length = 0;
    queue.pop()!.write(5, pattern(1, 10));
    expect(memory.writes).toEqual([
      { gpa: BUFFERS + 5, length: 5 },
      { gpa: BUFFERS + 0x3000, length: 5 },
    ]);
  });

  it("touches nothing before a request's first byte, where the driver gave less than a device counted on", () => {
    const { memory, driver, queue } = rig(kind);
    const [asked, answer] = [BUFFERS + 0x100, BUFFERS + 0x200];
    memory.view(BUFFERS, 0x300)!.fill(0x77);
    driver.add([{ gpa: asked, length: 2 }], [{ gpa: answer, length: 2 }]);
    memory.writes.length = 0;
    const chain = queue.pop()!;
    const status = chain.writableBytes - 4;
    expect([chain.writeU8(status, 1), chain.writeU32(status, 1), chain.write(status, pattern(1, 4))]).toEqual(
      [false, false, 0],
    );
    chain.written(status, 4);
    expect([memory.writes, memory.readU32(answer - 2)]).toEqual([[], 0x77777777]);
    expect([chain.readU8(-1), chain.readU32(-4), chain.read(-2, new Uint8Array(4))]).toEqual([0, 0, 0]);
    expect(chain.readU32(-1)).toBe(0x777700); // what there is of it
  });

  it("has nothing to notify of while the device is looking", () => {
    const { driver, queue } = rig(kind, { eventIdx: true });
    queue.enableNotifications();
    driver.add([], [{ gpa: BUFFERS, length: 1 }]);
    expect(driver.needsNotification()).toBe(true);
    queue.disableNotifications();
    driver.add([], [{ gpa: BUFFERS, length: 1 }]);
    expect(driver.needsNotification()).toBe(false);
    expect(queue.enableNotifications()).toBe(false);
  });

  it("puts a request back in front", () => {
    const { driver, queue } = rig(kind);
    const first = driver.add([], [{ gpa: BUFFERS, length: 1 }]);
    const second = driver.add([], [{ gpa: BUFFERS, length: 2 }]);
    queue.unpop(queue.pop()!);
    expect([queue.pop()!.id, queue.pop()!.id, queue.pop()]).toEqual([first, second, undefined]);
  });

  it("gives several that were put back in the order they were taken, as after a restore", () => {
    const { driver, queue } = rig(kind);
    const ids = [1, 2, 3].map((length) => driver.add([], [{ gpa: BUFFERS, length }]));
    const chains = [queue.pop()!, queue.pop()!, queue.pop()!] as const;
    for (const at of [0, 2, 1] as const) queue.unpop(chains[at]);
    expect([queue.pop()!.id, queue.pop()!.id, queue.pop()!.id]).toEqual(ids);
  });

  it("shows and reports what was used before the device failed or the driver closed it", () => {
    const { memory, driver, queue } = rig(kind);
    const id = driver.add([], [{ gpa: BUFFERS, length: 1 }]);
    queue.push(queue.pop()!, 1);
    memory.writes.length = 0;
    queue.close();
    expect(memory.writes.length + (kind === "packed" ? 1 : 0)).toBeGreaterThan(0); // packed ones were at once
    expect(driver.collect()).toEqual([{ id, written: 1 }]);
  });

  const segment = fc.record({
    length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(512, 4096)),
    writable: fc.boolean(),
  });
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant("add" as const),
        parts: fc.array(segment, { minLength: 1, maxLength: 4 }),
        indirect: fc.boolean(),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("pop" as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("push" as const), which: fc.nat(7) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("unpop" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("collect" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("restore" as const) }) },
  );

  it("shows what was used out of order in order, with IN_ORDER (§2.7.9, §2.8.9)", () => {
    const { driver, queue } = rig(kind, { inOrder: true });
    const ids = [1, 2, 3].map((length) => driver.add([], [{ gpa: BUFFERS, length }]));
    const [first, second, third] = [queue.pop()!, queue.pop()!, queue.pop()!];
    for (const chain of [third, third, second]) queue.push(chain, chain.writableBytes);
    queue.flush();
    expect(driver.collect()).toEqual([]);
    queue.push(first, 0);
    queue.flush();
    expect(driver.collect()).toEqual(ids.map((id, i) => ({ id, written: [0, 2, 3][i] })));
  });

  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])(
    "loses and invents nothing, in any order, saved anywhere (EVENT_IDX: %s, IN_ORDER: %s)",
    (eventIdx, inOrder) => {
      fc.assert(
        fc.property(fc.constantFrom(2, 4, 8), fc.array(step, { maxLength: 80 }), (size, steps) => {
          const r = rig(kind, { size, eventIdx, inOrder });
          const expected = new Map<number, { readonly lengths: [number, number]; readonly seed: number }>();
          const waiting: number[] = [];
          let held: DescriptorChain[] = [];
          const done: number[] = [];
          // With IN_ORDER: what the device has taken, oldest first, and what of it waits for older ones.
          const taken: number[] = [];
          const finished = new Set<number>();
          let seed = 0;
          for (const s of steps) {
            if (s.do === "add") {
              const at = BUFFERS + (seed++ % 32) * 0x5000;
              let gpa = at;
              const place = (writable: boolean): { gpa: number; length: number }[] =>
                s.parts
                  .filter((part) => part.writable === writable)
                  .map(({ length }) => ({ gpa: (gpa += length) - length, length }));
              const [readable, writable] = [place(false), place(true)];
              const read = readable.reduce((sum, { length }) => sum + length, 0);
              const id = r.driver.add(readable, writable, s.indirect ? TABLES + (seed % 64) * 64 : undefined);
              if (id === undefined) continue;
              r.memory.write(at, pattern(seed, read));
              expected.set(id, { lengths: [read, gpa - at - read], seed });
              waiting.push(id);
            } else if (s.do === "pop") {
              const chain = r.queue.pop();
              expect(chain?.id).toBe(waiting.shift());
              if (chain === undefined) continue;
              const { lengths, seed: sent } = expected.get(chain.id)!;
              expect([chain.readableBytes, chain.writableBytes]).toEqual(lengths);
              const got = new Uint8Array(lengths[0]);
              chain.read(0, got);
              expect(got).toEqual(pattern(sent, lengths[0]));
              held.push(chain);
              if (!taken.includes(chain.id)) taken.push(chain.id);
            } else if (s.do === "push" && held.length > 0) {
              const [chain] = held.splice(s.which % held.length, 1);
              const before = r.interrupts;
              const hadSeenAll = done.length === 0;
              finished.add(chain!.id);
              for (let id = chain!.id; finished.delete(inOrder ? (id = taken[0]!) : id); ) {
                done.push(id);
                taken.splice(taken.indexOf(id), 1);
              }
              r.queue.push(chain!, chain!.writableBytes);
              r.queue.flush();
              if (hadSeenAll && done.length > 0) expect(r.interrupts).toBe(before + 1);
            } else if (s.do === "unpop" && held.length > 0) {
              const chain = held.pop()!;
              waiting.unshift(chain.id);
              r.queue.unpop(chain);
            } else if (s.do === "collect") {
              const used = r.driver.collect();
              expect(used.map(({ id }) => id)).toEqual(done);
              for (const { id, written } of used) expect(written).toBe(expected.get(id)!.lengths[1]);
              done.length = 0;
            } else if (s.do === "restore") {
              const state = JSON.parse(JSON.stringify(r.queue.save())) as ReturnType<VirtQueue["save"]>;
              r.queue.close();
              r.queue = r.remake();
              r.queue.restore(state);
              // What was in flight comes again first, oldest first.
              const inFlight = state.inFlight.map(({ id }) => id);
              for (const id of inFlight) {
                if (!waiting.includes(id) && !finished.has(id)) waiting.unshift(id);
              }
              waiting.sort((a, b) => order(inFlight, a) - order(inFlight, b));
              held = [];
            }
          }
          expect(r.faults).toEqual([]);
        }),
        { numRuns: 300 },
      );
    },
  );

  const words = fc.oneof(
    fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x8000, 0x8080, 0xffff, 16, 32, 0x1000, 0x10000, 0xfff0),
    fc.nat(0xffff),
  );
  it("survives any bytes in the rings", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0xff), words), { maxLength: 60 }),
        fc.array(fc.array(fc.tuple(fc.nat(0xff), words), { maxLength: 6 }), { maxLength: 20 }),
        fc.boolean(),
        (first, rounds, eventIdx) => {
          const r = rig(kind, { size: 8, eventIdx });
          const scribble = (changes: readonly (readonly [number, number])[]): void => {
            for (const [at, value] of changes) r.memory.writeU16(RINGS + 2 * at, value);
          };
          scribble(first);
          for (let i = 0; i < 8; i++)
            r.driver.add([{ gpa: BUFFERS, length: 16 }], [{ gpa: BUFFERS, length: 16 }]);
          let served = 0;
          for (const changes of rounds) {
            scribble(changes);
            serve(r.queue, (chain) => {
              served++;
              expect(chain.segments).toBeLessThanOrEqual(1024);
              for (const view of chain.readable()) expect(view.length).toBeGreaterThan(0);
              r.queue.push(chain, 0);
            });
          }
          expect(served).toBeLessThanOrEqual(8 * (rounds.length + 1) * 2);
          expect(r.faults.length).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 500 },
    );
  });
});

const order = (list: readonly number[], id: number): number =>
  list.includes(id) ? list.indexOf(id) : list.length;

describe("a driver's mistakes in a split queue", () => {
  const NEXT = 1;
  const WRITE = 2;
  const INDIRECT = 4;
  const desc = (r: Rig, at: number, gpa: number, length: number, flags: number, next = 0): boolean =>
    r.memory.writeU32(at, gpa) &&
    r.memory.writeU32(at + 4, 0) &&
    r.memory.writeU32(at + 8, length) &&
    r.memory.writeU16(at + 12, flags) &&
    r.memory.writeU16(at + 14, next);
  const avail = (r: Rig, idx: number, ...heads: number[]): boolean =>
    heads.every((head, i) => r.memory.writeU16(r.driver.addresses.driver + 4 + 2 * i, head)) &&
    r.memory.writeU16(r.driver.addresses.driver + 2, idx);
  const cases: readonly (readonly [QueueFault, (r: Rig) => readonly boolean[]])[] = [
    ["availJump", (r) => [avail(r, 9)]],
    ["headOutOfRange", (r) => [avail(r, 1, 8)]],
    ["nextOutOfRange", (r) => [desc(r, RINGS, BUFFERS, 1, NEXT, 8), avail(r, 1, 0)]],
    ["chainTooLong", (r) => [desc(r, RINGS, BUFFERS, 1, NEXT, 0), avail(r, 1, 0)]],
    ["bufferOutsideMemory", (r) => [desc(r, RINGS, (1 << 20) - 1, 2, WRITE), avail(r, 1, 0)]],
    [
      "readableAfterWritable",
      (r) => [
        desc(r, RINGS, BUFFERS, 1, NEXT | WRITE, 1),
        desc(r, RINGS + 16, BUFFERS, 1, 0),
        avail(r, 1, 0),
      ],
    ],
    ["indirectWithNext", (r) => [desc(r, RINGS, TABLES, 16, INDIRECT | NEXT, 1), avail(r, 1, 0)]],
    ["indirectLength", (r) => [desc(r, RINGS, TABLES, 17, INDIRECT), avail(r, 1, 0)]],
    ["indirectOutsideMemory", (r) => [desc(r, RINGS, 1 << 20, 16, INDIRECT), avail(r, 1, 0)]],
    [
      "indirectNested",
      (r) => [desc(r, RINGS, TABLES, 16, INDIRECT), desc(r, TABLES, TABLES, 16, INDIRECT), avail(r, 1, 0)],
    ],
  ];

  it.each(cases)("%s", (fault, make) => {
    const r = rig("split");
    expect(make(r)).not.toContain(false);
    expect(r.queue.pop()).toBeUndefined();
    expect(r.queue.pop()).toBeUndefined();
    expect(r.faults).toEqual([fault]);
  });

  it("indirectNotNegotiated", () => {
    const r = rig("split", { indirect: false });
    desc(r, RINGS, TABLES, 16, INDIRECT);
    avail(r, 1, 0);
    expect(r.queue.pop()).toBeUndefined();
    expect(r.faults).toEqual(["indirectNotNegotiated"]);
  });

  it("headInFlight", () => {
    const r = rig("split");
    desc(r, RINGS, BUFFERS, 1, 0);
    avail(r, 2, 0, 0);
    const chain = r.queue.pop()!;
    expect(r.queue.pop()).toBeUndefined();
    expect(r.faults).toEqual(["headInFlight"]);
    r.memory.writes.length = 0;
    r.queue.push(chain, 1);
    r.queue.flush();
    expect(r.memory.writes).toEqual([]); // nothing works any more
  });
});
