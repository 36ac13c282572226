import { FakeMemory, PackedDriverQueue } from "@northbridge/sdk/testing";
import { type DescriptorChain, DeviceQueue, FeatureSet, type QueueJournal } from "@northbridge/sdk/virtio";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packedInflightLength, PackedInflightRegion } from "../src/backend/packed-inflight-region.ts";

const SIZE = 8;
const START = { lastAvail: 0x8000, lastUsed: 0x8000 };
const [INDIRECT_DESC, EVENT_IDX, RING_PACKED] = [28, 29, 34];

/** A driver, and devices that die. */
class Rig {
  readonly memory = new FakeMemory(1 << 16);
  readonly driver = new PackedDriverQueue({ memory: this.memory, gpa: 0x1000, size: SIZE, eventIdx: true });
  readonly bytes = new Uint8Array(packedInflightLength(SIZE));
  readonly device: DeviceQueue;
  readonly region: PackedInflightRegion;
  /** What the device that lives has. */
  readonly held: DescriptorChain[] = [];
  /** Indirect tables so far. */
  tables = 0;

  constructor(before?: Rig, journalOf: (region: PackedInflightRegion) => QueueJournal = (region) => region) {
    if (before !== undefined) {
      this.memory = before.memory;
      this.driver = before.driver;
      this.bytes = before.bytes;
      this.tables = before.tables;
    }
    const { addresses } = this.driver;
    this.region = new PackedInflightRegion(this.bytes, SIZE, { memory: this.memory, gpa: addresses.desc });
    this.device = new DeviceQueue({
      size: SIZE,
      addresses,
      features: FeatureSet.of([INDIRECT_DESC, EVENT_IDX, RING_PACKED]),
      memory: this.memory,
      journal: journalOf(this.region),
      request: () => undefined,
      interrupt: () => undefined,
      fail: (fault) => {
        throw new Error(fault);
      },
    });
    this.device.restore(this.region.recover(START));
  }

  /** Offers a request of so many readable buffers and one writable. */
  offer(buffers: number, isIndirect: boolean): number | undefined {
    const readable = Array.from({ length: buffers }, (_, i) => ({ gpa: 0x2000 + 0x10 * i, length: i + 1 }));
    const table = 0x4000 + 0x100 * (this.tables++ % 32);
    return this.driver.add(readable, [{ gpa: 0x3000, length: 4 }], isIndirect ? table : undefined);
  }

  take(): void {
    const chain = this.device.pop();
    if (chain !== undefined) this.held.push(chain);
  }

  use(which: number): void {
    const [chain] = this.held.splice(which % Math.max(1, this.held.length), 1);
    if (chain !== undefined) this.device.push(chain, 4);
  }
}

/** Where a process ends, between two of its writes. */
class Death extends Error {}

describe("PackedInflightRegion", () => {
  it("has the layout that other back ends have", () => {
    const rig = new Rig();
    expect(rig.bytes).toHaveLength(320); // 32 + 8 × 32, in lines of 64
    rig.offer(1, false);
    rig.offer(2, false);
    rig.take();
    rig.take();
    const view = new DataView(rig.bytes.buffer);
    expect([view.getUint16(8, true), view.getUint16(10, true)]).toEqual([1, SIZE]); // version, desc_num
    expect([view.getUint16(12, true), view.getUint16(14, true)]).toEqual([5, 5]); // free_head, old_free_head
    const second = 32 + 32 * 2;
    expect([
      view.getUint8(second),
      view.getUint16(second + 4, true),
      view.getUint16(second + 6, true),
    ]).toEqual([1, 4, 3]); // inflight, last, num
    expect([view.getUint32(second + 8, true), view.getUint32(second + 24, true)]).toEqual([1, 0x2000]); // counter, addr
    rig.use(0);
    expect([view.getUint16(16, true), view.getUint16(18, true), view.getUint8(20)]).toEqual([2, 2, 1]); // used_idx, old_used_idx, used_wrap_counter
    expect([view.getUint8(32), view.getUint16(12, true)]).toEqual([0, 0]);
  });

  it("knows what was in flight, wherever its device died and however often", () => {
    const step = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant("offer" as const),
          buffers: fc.nat(2),
          isIndirect: fc.boolean(),
        }),
      },
      { weight: 4, arbitrary: fc.record({ do: fc.constant("take" as const) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("use" as const), which: fc.nat(7) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("collect" as const) }) },
      // The n-th note from here on is not written any more, and nothing after it.
      { weight: 1, arbitrary: fc.record({ do: fc.constant("doom" as const), notes: fc.nat(4) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
        let left = Infinity;
        const dying = (region: PackedInflightRegion): QueueJournal => {
          const note = (write: () => void): void => {
            if (left-- <= 0) throw new Death();
            write();
          };
          return {
            taken: (request) => {
              note(() => {
                region.taken(request);
              });
            },
            using: (request) => {
              note(() => {
                region.using(request);
              });
            },
            used: (request) => {
              note(() => {
                region.used(request);
              });
            },
            shown: () => undefined,
          };
        };
        let rig = new Rig(undefined, dying);
        const offered = new Set<number>();
        const collect = (): void => {
          for (const { id } of rig.driver.collect()) expect(offered.delete(id)).toBe(true);
        };
        for (const each of steps) {
          try {
            if (each.do === "take") rig.take();
            else if (each.do === "use") rig.use(each.which);
            else if (each.do === "doom") left = each.notes;
            else if (each.do === "collect") collect();
            else {
              const id = rig.offer(each.buffers, each.isIndirect);
              if (id !== undefined) offered.add(id);
            }
          } catch (error) {
            if (!(error instanceof Death)) throw error;
            left = Infinity;
            rig = new Rig(rig, dying);
          }
        }
        left = Infinity;
        for (let i = 0; i < 2 * SIZE; i++) rig.take();
        for (const { writableBytes } of rig.held) expect(writableBytes).toBe(4);
        while (rig.held.length > 0) rig.use(0);
        collect();
        expect(offered.size).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it("gives back to the ring what was taken last, and nothing that was overtaken", () => {
    const rig = new Rig();
    for (let i = 0; i < 3; i++) rig.offer(1, true);
    for (let i = 0; i < 3; i++) rig.take();
    expect(rig.region.rewindable()).toBe(3);
    rig.use(0);
    expect(rig.region.rewindable()).toBe(2);
    rig.use(1);
    expect(rig.region.rewindable()).toBeUndefined();
  });

  it("believes nothing that a front end wrote into it", () => {
    const length = packedInflightLength(SIZE);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: length, maxLength: length }),
        fc.nat(7),
        fc.nat(7),
        (bytes, a, b) => {
          bytes.set([1, 0, SIZE, 0, a, 0, b, 0, a, 0, b, 0, 1, 0], 8);
          const region = new PackedInflightRegion(bytes, SIZE, {
            memory: new FakeMemory(1 << 16),
            gpa: 0x1000,
          });
          const { inFlight, lastAvail, lastUsed } = region.recover(START);
          expect(inFlight.every(({ slots }) => slots <= SIZE)).toBe(true);
          expect([(lastAvail & 0x7fff) < 2 ** 15, (lastUsed & 0x7fff) < SIZE]).toEqual([true, true]);
          for (let id = 0; id < 4; id++) {
            region.taken({ id, slots: 2 });
            region.using({ id, slots: 2 });
            region.used({ id });
          }
        },
      ),
    );
  });
});

it("goes on, whatever its other side writes into it meanwhile", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom("offer", "take", "use", "scribble"), fc.nat(255)), { maxLength: 60 }),
      (steps) => {
        const rig = new Rig();
        let [taken, used] = [0, 0];
        const collect = (): void => void (used += rig.driver.collect().length);
        for (const [what, choice] of steps) {
          if (what === "offer") rig.offer(choice % 3, choice % 2 === 0);
          else if (what === "use") rig.use(choice);
          else if (what === "scribble")
            rig.bytes.fill(choice, 12); // behind the version and the size
          else {
            rig.take();
            taken = used + rig.held.length;
          }
          collect();
        }
        while (rig.held.length > 0) rig.use(0);
        collect();
        expect(used).toBe(taken);
      },
    ),
  );
});
