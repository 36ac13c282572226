import { describe, expect, it } from "vitest";
import {
  bit,
  type ConfigSchema,
  definePlugin,
  type DeviceEntry,
  registerMap,
  type RegisterState,
} from "../index.ts";
import {
  deviceConformance,
  type DeviceUnderTest,
  deviceTrial,
  discoverRegisters,
  fuzzCampaign,
  fuzzDevice,
} from "./index.ts";

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const map = registerMap("ticker", {
  CTRL: { offset: 0, fields: { ENABLE: bit(0), IRQ: bit(1) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0) } },
  PERIOD: { offset: 8, width: 2, reset: 100 },
});

type Bug =
  | "NaN"
  | "forgets the deadline"
  | "forgets the line"
  | "stays high"
  | "pulses"
  | "sets a reserved bit";

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
        regs.values.STATUS |= bug === "sets a reserved bit" ? 3 : STATUS.DONE;
        line.set(isRaised());
        if (bug === "pulses") line.set(false);
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
  registersCode: "map",
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
    expect(lawsTried(withBug())).toHaveLength(6);
    expect(lawsTried({ ...withBug(), except: ["save and restore", "fuzz"] })).toEqual([
      "keeps to its register map",
      "cannot be told from a new one after reset",
      "holds its interrupt lines",
      "leaves memory alone where it is no bus master",
    ]);
    expect(lawsTried({ ...unmapped, except: ["reset", "interrupt levels"] })).toHaveLength(3);
  });
});

describe("fuzzing", () => {
  it("finds a value that is none", async () => {
    await expect(fuzzDevice("fuzz", withBug("NaN"))).rejects.toThrow(
      /gave NaN, expected an unsigned integer/,
    );
  });

  it.each([
    [
      "answers with a bigint",
      { read: () => 5n as never, write: () => undefined },
      /gave the bigint 5n, expected/,
    ],
    [
      "writes later",
      { read: () => 0, write: (() => Promise.reject(new Error("later"))) as never },
      /gave a promise; register handlers are synchronous/,
    ],
  ])("finds a handler that %s, with and without a register map", async (_what, handler, problem) => {
    const create = definePlugin({
      name: "test/raw",
      config: NoConfig,
      setup(ctx) {
        ctx.mapMmio({ base: 0x1000, length: map.length }, handler);
        return { reset: () => undefined, save: () => ({}), restore: () => undefined };
      },
    });
    for (const device of [{ create }, { create, registers: map }])
      await expect(fuzzDevice("fuzz", device)).rejects.toThrow(problem);
  });

  it("finds a state that JSON does not hold", async () => {
    const device = (state: unknown): DeviceUnderTest => ({
      create: definePlugin({
        name: "test/odd",
        config: NoConfig,
        setup(ctx) {
          ctx.mapMmio({ base: 0x1000, length: 4 }, { read: () => 0, write: () => undefined });
          return { save: () => state, restore: () => undefined };
        },
      }),
    });
    await expect(fuzzDevice("save and restore", device({ count: 1n }))).rejects.toThrow(
      /does not survive JSON: state.count is a bigint/,
    );
    await expect(fuzzDevice("save and restore", device([new Map()]))).rejects.toThrow(/state\[0\] is a Map/);
  });

  it("finds what a restored device forgot", async () => {
    await expect(fuzzDevice("save and restore", withBug("forgets the deadline"))).rejects.toThrow(
      /restored device differs/,
    );
    await expect(fuzzDevice("save and restore", withBug("forgets the line"))).rejects.toThrow(
      /interrupt levels: the restored/,
    );
  });

  it("finds a bit that the register map does not have", async () => {
    await expect(fuzzDevice("register map", withBug("sets a reserved bit"))).rejects.toThrow(
      /STATUS in reserved bits reads 0x2, by its register map 0x0/,
    );
  });

  it("prints the shortest program as a test", async () => {
    const error: unknown = await fuzzDevice("reset", withBug("stays high"), { seed: 3 }).catch(
      (reason: unknown) => reason,
    );
    const { message } = error as Error;
    expect(message).toMatch(/^reset: GSI 3 is still high after reset \(seed -?\d+\)/);
    expect(
      message.slice(message.indexOf("import")),
    ).toBe(`import { deviceTrial } from "@northbridge/sdk/fuzz";

it("found by fuzzing: reset", async () => {
  const trial = await deviceTrial({ create: () => ticker(), registers: map }, "reset");
  trial.run((bench) => bench.regs.CTRL.write(0x3));
  trial.nextTimer();
  await trial.reset();
  trial.end();
});`);
  });

  it("prints what fails in the same way", async () => {
    // As printed by the tests above.
    const reset = await deviceTrial({ ...withBug("stays high"), registers: map }, "reset");
    reset.run((bench) => bench.regs.CTRL.write(0x3));
    reset.nextTimer();
    await expect(reset.reset()).rejects.toThrow("GSI 3 is still high after reset");
    const levels = await deviceTrial({ ...withBug("pulses"), registers: map }, "interrupt levels");
    levels.run((bench) => bench.regs.CTRL.write({ ENABLE: 1, IRQ: 1 }));
    expect(() => levels.advance(1e6)).toThrow("GSI 3 went up and down at once");
    await expect(levels.expectResetValues()).rejects.toThrow(/knows no register map/);
  });
});

describe("without a register map", () => {
  const unmapped = (bug?: Bug): DeviceUnderTest => ({ create: () => ticker(bug) });

  it("registers are found by trying", async () => {
    const found = await discoverRegisters(unmapped());
    expect(found.filter(({ width }) => width === 4)).toEqual(
      [
        { offset: 0, reset: 0, bits: 3 },
        // Something once the device has worked: a written one clears it.
        { offset: 4, reset: 1, bits: 1 },
        { offset: 8, reset: 100, bits: 0xffff },
      ].map((register) => ({ space: "mmio", region: "ticker0", width: 4, ...register })),
    );
  });

  it("programs that use them find what a device forgets", async () => {
    const of = (bug?: Bug) => {
      let turns = 0;
      return fuzzCampaign(unmapped(bug), { now: () => turns++, budgetMs: 60, seed: 1 });
    };
    expect((await of("forgets the deadline")).found?.law.name).toBe("save and restore");
    expect((await of("forgets the line")).found?.law.name).toBe("save and restore");
    expect((await of("stays high")).found?.law.name).toBe("reset");
    expect((await of("pulses")).found).toBeDefined();
    expect((await of()).found).toBeUndefined();
  });
});
