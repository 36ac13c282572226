import { describe, expect, it } from "vitest";
import {
  bit,
  type ConfigSchema,
  definePlugin,
  type DeviceEntry,
  registerMap,
  type RegisterState,
} from "../index.ts";
import { deviceConformance, type DeviceUnderTest, fuzzDevice, fuzzReset, fuzzSnapshots } from "./index.ts";

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const map = registerMap("ticker", {
  CTRL: { offset: 0, fields: { ENABLE: bit(0), IRQ: bit(1) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0) } },
  PERIOD: { offset: 8, width: 2, reset: 100 },
});

type Bug = "NaN" | "forgets the deadline" | "forgets the line" | "stays high";

/** Counts microseconds and interrupts; `bug` plants one. */
function ticker(bug?: Bug): DeviceEntry {
  return definePlugin({
    name: "test/ticker",
    config: NoConfig,
    setup(ctx) {
      const { CTRL, STATUS } = map.masks;
      const line = ctx.irq(3);
      const isRaised = (): boolean => (regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0;
      const timer = ctx.clock.createTimer(() => {
        regs.values.STATUS |= STATUS.DONE;
        line.set(isRaised());
      });
      const regs = map.create({
        hooks: {
          CTRL: {
            write: (stored, previous) => {
              if ((stored & ~previous & CTRL.ENABLE) !== 0)
                timer.arm(ctx.clock.nowNs() + regs.values.PERIOD * 1000);
            },
          },
          PERIOD: { read: (stored) => (bug === "NaN" && stored === 0 ? Number.NaN : stored) },
        },
        sync: () => line.set(isRaised()),
      });
      const handler =
        bug === "NaN"
          ? {
              read: (offset: number) => (regs.values.PERIOD === 0 ? Number.NaN : regs.read(offset, 1)),
              write: regs.write.bind(regs),
            }
          : regs.handler;
      ctx.mapMmio({ base: 0x1000, length: map.length }, handler);
      return {
        reset() {
          regs.reset();
          timer.disarm();
          if (bug !== "stays high") line.set(false);
        },
        save: () => ({ regs: regs.save(), deadlineNs: timer.deadlineNs ?? null }),
        restore(state: unknown) {
          const { regs: saved, deadlineNs } = state as { regs: RegisterState; deadlineNs: number | null };
          regs.restore(saved);
          if (deadlineNs !== null && bug !== "forgets the deadline") timer.arm(deadlineNs);
          if (bug !== "forgets the line") line.adopt(isRaised());
        },
      };
    },
  })();
}

const withBug = (bug?: Bug): DeviceUnderTest => ({
  create: () => ticker(bug),
  registers: map,
  code: "ticker()",
});

deviceConformance({ describe, it }, withBug());

describe("deviceConformance()", () => {
  const lawsTried = (device: DeviceUnderTest): readonly string[] => {
    const names: string[] = [];
    const it = (name: string): void => void names.push(name);
    deviceConformance(
      {
        describe: (_name, body) => {
          body();
        },
        it,
      },
      device,
    );
    return names;
  };

  it("leaves out what a device says it does not keep, and the map where there is none", () => {
    const { registers, ...unmapped } = withBug();
    expect(registers).toBe(map);
    expect(lawsTried(withBug())).toHaveLength(5);
    expect(lawsTried({ ...withBug(), except: ["save and restore", "fuzz"] })).toEqual([
      "cannot be told from a new one after reset",
      "holds its interrupt lines",
      "keeps to its register map",
    ]);
    expect(lawsTried({ ...unmapped, except: ["reset", "interrupt levels"] })).toHaveLength(2);
  });
});

describe("fuzzing", () => {
  it("finds a value that is none", async () => {
    await expect(fuzzDevice(withBug("NaN"))).rejects.toThrow(/gave NaN, expected an unsigned integer/);
  });

  it("finds what a restored device forgot", async () => {
    await expect(fuzzSnapshots(withBug("forgets the deadline"))).rejects.toThrow(/restored device differs/);
    await expect(fuzzSnapshots(withBug("forgets the line"))).rejects.toThrow(
      /interrupt levels: the restored/,
    );
  });

  it("prints the shortest program as a test", async () => {
    const error: unknown = await fuzzReset(withBug("stays high"), { seed: 2 }).catch(
      (reason: unknown) => reason,
    );
    expect((error as Error).message).toMatch(/^reset: GSI 3 is still high after reset \(seed -?\d+\)/);
    expect((error as Error).message).toContain(
      "const bench = await testBench(ticker(), { registers: map });",
    );
    expect((error as Error).message).toMatch(
      /map \}\);\n {2}bench\.regs\.CTRL\.write\(0x3\);\n {2}bench\.clock\.advanceTo\(bench\.clock\.nextDeadlineNs\(\)\);\n {2}\/\/ reset here\n\}\);/,
    );
  });
});
