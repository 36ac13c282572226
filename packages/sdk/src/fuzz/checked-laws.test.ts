import { expect, it } from "vitest";
import { type ConfigSchema, definePlugin, type DeviceEntry, registerMap } from "../index.ts";
import { PciBus, PciFunction } from "../pci/index.ts";
import { type DeviceChecker, fuzzDevice } from "./index.ts";

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const registers = registerMap("copier", {
  COUNT: { offset: 0, examples: [16] },
  GO: { offset: 4, access: "wo" },
});

/** Writes COUNT ones to 0x1000 when it is told to go, 16 at most. */
function copier(bug: "takes 17" | "ignores bus master" | "reads" | "" = ""): DeviceEntry {
  return definePlugin({
    name: "test/copier",
    config: NoConfig,
    setup(ctx) {
      const go = (): void => {
        if (!fn.isBusMaster && bug === "reads") ctx.memory.readU8(0x1000);
        if (!fn.isBusMaster && bug !== "ignores bus master") return;
        const { COUNT: count } = regs.values;
        if (count <= (bug === "takes 17" ? 17 : 16)) ctx.memory.write(0x1000, new Uint8Array(count).fill(1));
      };
      const regs = registers.create({ hooks: { GO: { write: go } } });
      const fn: PciFunction = new PciFunction(ctx, {
        vendorId: 1,
        deviceId: 2,
        revision: 0,
        classCode: 0,
        bars: [
          {
            index: 0,
            kind: "memory32",
            length: 4096,
            regions: [{ offset: 0, length: registers.length, handler: regs.handler }],
          },
        ],
      });
      ctx.get(PciBus).attach(fn, {});
      return {
        reset: () => {
          regs.reset();
        },
        save: () => regs.save(),
        restore: (state: ReturnType<typeof regs.save>) => {
          regs.restore(state);
        },
      };
    },
  })();
}

const checker = (): DeviceChecker => ({
  see(events) {
    for (const event of events)
      if (event.kind === "dma" && event.length > 16)
        throw new Error(`${event.length} bytes, expected 16 at most`);
  },
});

it("knows of transfers what a checker knows", async () => {
  await expect(
    fuzzDevice("data sheet", { create: () => copier("takes 17"), registers, checker }),
  ).rejects.toThrow(
    /^data sheet: 17 bytes, expected 16 at most \(seed[^]*registers, checker \}, "data sheet"\);\n {2}trial\.run\(\(bench\) => bench\.regs\.COUNT\.write\(0x11\)\);\n {2}trial\.run\(\(bench\) => bench\.regs\.GO\.write\(0x0\)\);/,
  );
  await fuzzDevice("data sheet", { create: () => copier(), registers, checker });
});

it("leaves no memory to a function that is no bus master", async () => {
  const judge = (bug: Parameters<typeof copier>[0]) =>
    fuzzDevice("bus master", { create: () => copier(bug), registers });
  await judge("");
  await expect(judge("ignores bus master")).rejects.toThrow(
    /^bus master: the device wrote memory and is no bus master \(seed[^]*trial\.endBusMaster\(\);/,
  );
  await expect(judge("reads")).rejects.toThrow("the device read memory and is no bus master");
});
