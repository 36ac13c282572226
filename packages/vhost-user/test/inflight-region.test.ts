import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inflightLength, InflightRegion } from "../src/backend/inflight-region.ts";

const SIZE = 16;

describe("InflightRegion", () => {
  it("has the layout that other back ends have", () => {
    const bytes = new Uint8Array(inflightLength(SIZE));
    expect(bytes).toHaveLength(320); // 16 + 16 × 16, in lines of 64
    const region = new InflightRegion(bytes, SIZE);
    expect(region.recover(5)).toEqual([]);
    region.taken({ id: 3 });
    region.taken({ id: 7 });
    region.using({ id: 7 });
    const view = new DataView(bytes.buffer);
    expect([view.getUint16(8, true), view.getUint16(10, true)]).toEqual([1, SIZE]); // version, desc_num
    expect([view.getUint16(12, true), view.getUint16(14, true)]).toEqual([7, 5]); // last_batch_head, used_idx
    const states = [3, 7].map((head) => 16 + 16 * head);
    expect(states.map((at) => view.getUint8(at))).toEqual([1, 1]);
    expect(states.map((at) => view.getUint32(at + 8, true))).toEqual([0, 1]); // counter
  });

  it("knows what was in flight wherever its device died", () => {
    fc.assert(
      fc.property(
        fc.nat(0xffff),
        fc.array(fc.nat(SIZE - 1), { maxLength: 40 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom("before", "shown", "noted"),
        (start, picks, batchSize, died) => {
          const bytes = new Uint8Array(inflightLength(SIZE));
          const region = new InflightRegion(bytes, SIZE);
          region.recover(start);
          let usedIdx = start;
          const flying: number[] = [];
          for (const pick of picks) {
            if (!flying.includes(pick)) {
              region.taken({ id: pick });
              flying.push(pick);
              continue;
            }
            const batch = flying.splice(0, batchSize);
            for (const id of batch) region.using({ id });
            usedIdx = (usedIdx + batch.length) & 0xffff;
            region.shown();
          }
          const last = flying.splice(0, batchSize);
          if (died !== "before") {
            for (const id of last) region.using({ id });
            usedIdx = (usedIdx + last.length) & 0xffff;
            if (died === "noted") region.shown();
          }
          const next = new InflightRegion(bytes, SIZE);
          expect(next.recover(usedIdx)).toEqual(died === "before" ? [...last, ...flying] : flying);
        },
      ),
    );
  });

  it("believes nothing that a front end wrote into it", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 320, maxLength: 320 }), fc.nat(0xffff), (bytes, usedIdx) => {
        bytes.set([1, 0, SIZE, 0], 8);
        const heads = new InflightRegion(bytes, SIZE).recover(usedIdx);
        expect(new Set(heads).size).toBe(heads.length);
        expect(heads.every((head) => head < SIZE)).toBe(true);
      }),
    );
  });
});
