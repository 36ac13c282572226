import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Device, whatJsonDrops } from "../contracts/index.ts";
import { guardedDevice } from "./guarded-device.ts";

describe("a device whose author had no compiler", () => {
  const later = (): never => Promise.reject(new Error("later")) as never;
  const device: Device = {
    reset: later,
    save: later,
    restore: later,
    resume: later,
    stats: later,
    pause: later,
  };

  it.each(["reset", "save", "restore", "resume", "stats"] as const)("may not be async in %s", (name) => {
    expect(() => guardedDevice(device, "gadget")[name]?.(undefined)).toThrow(
      expect.objectContaining({
        code: "NB_DEVICE",
        message: `device gadget: ${name}: gave a promise; only pause may be async`,
      }),
    );
  });

  it("may be so in pause, which is waited for", async () => {
    await expect(guardedDevice(device, "gadget").pause?.()).rejects.toThrow("device gadget: pause: later");
  });

  it.each([
    ["a Map", { m: new Map([[1, 2]]) }, "state.m is a Map"],
    ["bytes", { rx: [{ fifo: new Uint8Array(2) }] }, "state.rx[0].fifo is a Uint8Array"],
    ["NaN", { next: [1, Number.NaN] }, "state.next[1] is NaN"],
    ["a bigint", { value: 5n }, "state.value is a bigint"],
    ["a function", { f: () => 1 }, "state.f is a function"],
    ["a promise inside", { later: Promise.resolve(1) }, "state.later is a Promise"],
    ["a date", new Date(0), "state is a Date"],
    ["a hole", { list: [1, undefined] }, "state.list[1] is undefined"],
  ])("may not save %s", (_what, state, problem) => {
    expect(() => guardedDevice({ save: () => state, restore: () => undefined }, "gadget").save?.()).toThrow(
      expect.objectContaining({
        code: "NB_DEVICE",
        message: `device gadget: save: expected a state that JSON holds, found that ${problem}`,
      }),
    );
  });

  it("may not save what nobody could restore", () => {
    const save = (own: Device): unknown => guardedDevice(own, "gadget").save?.();
    expect(() => save({ save: () => undefined, restore: () => undefined })).toThrow(
      "device gadget: save: gave nothing that could be restored",
    );
    expect(() => save({ save: () => 1 })).toThrow(
      "device gadget: save: there is no restore that would take it",
    );
  });

  it("may not save what holds itself; the same twice is no such thing", () => {
    const state: Record<string, unknown> = { inner: {} };
    const save = () => guardedDevice({ save: () => state, restore: () => undefined }, "gadget").save?.();
    state["again"] = state["inner"];
    expect(save()).toBe(state);
    state["again"] = [state];
    expect(save).toThrow("found that state.again[0] holds itself");
  });

  it("saves nothing that JSON gives back as something else", () => {
    const anything = fc.anything({
      ...{ withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true },
      ...{ withSparseArray: true, withNullPrototype: true, withBoxedValues: true },
    });
    let held = 0;
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), anything), (state) => {
        if (whatJsonDrops(state) !== undefined || state === undefined) return;
        held++;
        const text = JSON.stringify(state);
        expect(JSON.stringify(JSON.parse(text))).toBe(text);
        expect(whatJsonDrops(JSON.parse(text))).toBeUndefined();
      }),
    );
    expect(held).toBeGreaterThan(0);
  });
});
