import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkedBytes } from "./chunked-bytes.ts";

describe("ChunkedBytes", () => {
  it("cuts the same bytes out of parts as out of one piece", () => {
    const parts = fc.array(fc.uint8Array({ maxLength: 6 }), { maxLength: 6 });
    fc.assert(
      fc.property(parts, fc.nat(40), fc.nat(40), (list, offset, length) => {
        const whole = Uint8Array.from(list.flatMap((part) => [...part]));
        const chunked = new ChunkedBytes(list);
        expect(chunked.length).toBe(whole.length);
        const expected = [...whole.subarray(offset, offset + length)];
        expect([...chunked.slice(offset, length)]).toEqual(expected);
        expect(chunked.views(offset, length).flatMap((view) => [...view])).toEqual(expected);
      }),
    );
  });

  it("gives back the memory of its own parts, and leaves shared buffers alone", () => {
    const own = new Uint8Array(16);
    const shared = new Uint8Array(16);
    new ChunkedBytes([own, shared.subarray(0, 8)]).release();
    expect([own.buffer.byteLength, shared.buffer.byteLength]).toEqual([0, 16]);
  });
});
