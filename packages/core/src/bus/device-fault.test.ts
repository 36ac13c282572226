import { describe, expect, it } from "vitest";
import { type BusShortcuts, DeviceFault, type IoHandler } from "../contracts/index.ts";
import { mmioBus, portBus } from "./address-space.ts";
import { guardedShortcuts } from "./guarded-bus.ts";

const ROOM = { name: "gadget", base: 0x100, length: 8 };

const faultOf = (access: () => unknown): DeviceFault => {
  try {
    access();
  } catch (error) {
    if (error instanceof DeviceFault) return error;
  }
  throw new Error("no fault");
};

const answering = (answer: unknown): IoHandler => ({
  read: () => answer as number,
  write: () => answer as undefined,
});

describe("a device that breaks its contract", () => {
  it.each([
    ...[Number.NaN, -1, 0.5, 0x1_0000, 2 ** 32, null, undefined, true].map((answer) => [
      answer,
      String(answer),
    ]),
    [5n, "the bigint 5n"],
    ["7", 'the string "7"'],
    [Object.create(null), "an object"],
    [() => 7, "a function"],
  ] as readonly (readonly [unknown, string])[])(
    "answers what is no value of a register: %#",
    (answer, words) => {
      const bus = portBus();
      bus.map(ROOM, answering(answer));
      const fault = faultOf(() => bus.read(0x104, 2));
      expect([fault.code, fault.device]).toEqual(["NB_DEVICE", "gadget"]);
      expect(fault.message).toBe(
        `device gadget: read gadget+0x4 (2 bytes): gave ${words}, expected an unsigned integer of the access's width`,
      );
    },
  );

  it("is async where it must not be", () => {
    const bus = mmioBus();
    bus.map(ROOM, answering(Promise.reject(new Error("later"))));
    expect(faultOf(() => bus.read(0x100, 4)).message).toMatch(/read gadget\+0x0 .*handlers are synchronous/);
    expect(faultOf(() => bus.write(0x100, 4, 1)).message).toMatch(
      /write gadget\+0x0 .*handlers are synchronous/,
    );
  });

  it("throws in a doorbell that a backend rings, which hears nothing of it", () => {
    const faults: unknown[] = [];
    const rings: (() => void)[] = [];
    const backend: BusShortcuts = {
      doorbell: (_address, _bell, ring) => {
        rings.push(ring);
        return () => undefined;
      },
    };
    const bus = mmioBus();
    bus.shortcuts = guardedShortcuts(backend, (fault) => void faults.push(fault));
    const write = (): never => {
      throw new Error("boom");
    };
    bus.map(ROOM, { read: () => 0, write, doorbells: [{ offset: 4, width: 2 }] });
    for (const ring of rings) ring();
    expect(faults).toEqual([
      expect.objectContaining({
        code: "NB_DEVICE",
        message: "device gadget: write gadget+0x4 (2 bytes): boom",
      }),
    ]);
  });

  it("throws, and the accesses that led there are kept", () => {
    const bus = mmioBus();
    const registers = new Map<number, number>();
    bus.map(ROOM, {
      read: (offset) => registers.get(offset) ?? 0,
      write: (offset, _width, value) => {
        if (value === 13) throw new Error("unlucky");
        registers.set(offset, value);
      },
    });
    bus.map({ name: "other", base: 0x200, length: 4 }, { read: () => 1, write: () => undefined });
    for (let value = 0; value < 300; value++) bus.write(0x100, 4, value === 13 ? 14 : value);
    bus.read(0x200, 4);
    bus.read(0x100, 4);
    const fault = faultOf(() => bus.write(0x104, 1, 13));
    expect(fault.message).toBe("device gadget: write gadget+0x4 (1 byte): unlucky");
    expect(fault.cause).toEqual(new Error("unlucky"));
    expect(fault.accesses.slice(-3)).toEqual([
      "write gadget+0x0 = 0x12b (4 bytes)",
      "read gadget+0x0 = 0x12b (4 bytes)",
      "write gadget+0x4 = 0xd (1 byte)",
    ]);
    expect(fault.accesses.length).toBeLessThan(257);
  });
});
