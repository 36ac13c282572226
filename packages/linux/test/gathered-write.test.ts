import { closeSync, readSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createMemfd, GatheredWrite } from "../src/index.ts";

const HEADER = 12;
const MOST = 4096;

/** A piece: of shared memory or not, and its bytes. */
const pieces = fc.array(
  fc.tuple(fc.boolean(), fc.uint8Array({ maxLength: 24 })),
  // Around the number of pieces that are still written from where they are.
  { maxLength: 80, size: "max" },
);

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "GatheredWrite (needs Linux on x86-64)",
  () => {
    it("writes header and pieces one after the other, wherever they lie", () => {
      const fd = createMemfd("gathered", 0);
      const gathered = new GatheredWrite(HEADER, MOST);
      let at = 0;
      try {
        fc.assert(
          fc.property(fc.uint8Array({ minLength: HEADER, maxLength: HEADER }), pieces, (header, list) => {
            gathered.header.set(header);
            const shared = new Uint8Array(new SharedArrayBuffer(4096));
            let next = 0;
            const placed = list.map(([isShared, bytes]) => {
              if (!isShared) return bytes;
              shared.set(bytes, (next += 3));
              next += bytes.length;
              return shared.subarray(next - bytes.length, next);
            });
            const expected = [...header, ...list.flatMap(([, bytes]) => [...bytes])];
            expect(gathered.write(fd, placed)).toBe(expected.length);
            const found = new Uint8Array(expected.length);
            readSync(fd, found, 0, found.length, at);
            at += found.length;
            expect([...found]).toEqual(expected);
          }),
        );
      } finally {
        closeSync(fd);
      }
    });

    it("cuts off what there is no room to copy, and names a call that fails", () => {
      const fd = createMemfd("gathered", 0);
      const gathered = new GatheredWrite(0, 8);
      expect(gathered.write(fd, [new Uint8Array(6), new Uint8Array(6)])).toBe(8);
      closeSync(fd);
      expect(() => gathered.write(fd, [new Uint8Array(1)])).toThrow(
        expect.objectContaining({ syscall: "writev", errno: "EBADF" }),
      );
    });
  },
);
