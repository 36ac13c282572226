import fc from "fast-check";
import { expect, it } from "vitest";
import { logLine } from "../src/contracts/index.ts";

it("writes what a text encoder of the host makes of the line, and hands it over", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }),
      fc.string({ unit: fc.constantFrom("a", "\ud800", "\udc00", "é", "€", "😀") }),
      (device, message) => {
        const written: number[] = [];
        let handedOver = 0;
        const log = {
          write: (byte: number) => written.push(byte),
          flush: () => (handedOver = written.length),
        };
        logLine(log, device, message);
        expect(written).toEqual([...new TextEncoder().encode(`${device}: ${message}\n`)]);
        expect(handedOver).toBe(written.length);
      },
    ),
  );
});
