import { describe, expect, it } from "vitest";
import type { Device } from "../contracts/index.ts";
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
});
