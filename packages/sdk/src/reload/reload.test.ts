import { type CharEnd, Console, HostEnds } from "@northbridge/core/contracts";
import { describe, expect, it } from "vitest";
import {
  bit,
  type ConfigSchema,
  definePlugin,
  type DevicePluginSpec,
  registerMap,
  type RegisterMap,
  type RegisterSpecs,
  type RegisterState,
} from "../index.ts";
import { PciBus, PciFunction } from "../pci/index.ts";
import { FakeDisk, testBench } from "../testing/index.ts";
import { ReloadableDevice } from "./index.ts";

const AnyConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const first = registerMap("alarm", {
  CTRL: { offset: 0, fields: { ENABLE: bit(0) } },
  STATUS: { offset: 4, access: "w1c" },
  VERSION: { offset: 8, access: "ro", reset: 1 },
});
const second = registerMap(
  "alarm",
  { ...first.specs, EXTRA: { offset: 12, reset: 5 } },
  { version: 2, upgrades: { 1: (registers) => ({ ...registers, EXTRA: 7, VERSION: 2 }) } },
);
/** Knows nothing of what the first one saved. */
const stranger = registerMap("alarm", { OTHER: { offset: 0 } });

interface State {
  readonly regs: RegisterState;
  readonly deadlineNs: number | null;
}

/** Interrupts a microsecond after it is enabled. */
const alarm = (
  map: RegisterMap<RegisterSpecs>,
  options: { readonly fails?: boolean; readonly closed?: string[] } = {},
): DevicePluginSpec<never, never> =>
  definePlugin({
    name: "test/alarm",
    config: AnyConfig,
    async setup(ctx) {
      await Promise.resolve();
      const line = ctx.irq(5);
      const values = (): Record<string, number> => regs.values;
      const sync = (): void => line.set(values()["STATUS"] !== 0);
      const timer = ctx.clock.createTimer(() => {
        values()["STATUS"] = 1;
        sync();
      });
      const enable = { write: (): void => timer.arm(ctx.clock.nowNs() + 1000) };
      const regs = map.create({ hooks: { CTRL: enable }, sync });
      ctx.mapMmio({ base: 0x1000, length: map.length }, regs.handler);
      ctx.onClose(() => void options.closed?.push(`${Object.keys(map.specs).length} registers`));
      if (options.fails === true) throw new Error("not today");
      return {
        save: (): State => ({ regs: regs.save(), deadlineNs: timer.deadlineNs ?? null }),
        restore: ({ regs: saved, deadlineNs }: State) => {
          regs.restore(saved);
          if (deadlineNs !== null) timer.arm(deadlineNs);
          line.adopt(values()["STATUS"] !== 0);
        },
      };
    },
  }).spec;

const start = async (options: { readonly closed?: string[] } = {}) => {
  const reloadable = new ReloadableDevice(alarm(first, options));
  const bench = await testBench({ spec: reloadable.spec, input: {} });
  return { reloadable, bench, read: (offset: number) => bench.mmio.read(0x1000 + offset, 4) };
};

describe("a device whose code is replaced", () => {
  it("goes on with its registers, its timer and the level of its line", async () => {
    const { reloadable, bench, read } = await start();
    bench.mmio.write(0x1000, 4, 1);
    bench.clock.advance(600);
    await reloadable.replace(alarm(second), {});
    expect([read(0), read(8), read(12)]).toEqual([1, 2, 7]);
    bench.clock.advance(399);
    expect(bench.interrupts.level(5)).toBe(false);
    bench.clock.advance(1);
    expect([bench.interrupts.level(5), bench.interrupts.edges(5)]).toEqual([true, 1]);
    await reloadable.replace(alarm(second), {});
    expect([bench.interrupts.level(5), bench.interrupts.edges(5), read(4)]).toEqual([true, 1, 1]);
    bench.mmio.write(0x1004, 4, 1);
    expect(bench.interrupts.level(5)).toBe(false);
  });

  it("refuses code that the state does not fit, or that fails, and goes on as it was", async () => {
    const { reloadable, bench, read } = await start();
    bench.mmio.write(0x1000, 4, 1);
    bench.clock.advance(999);
    await expect(reloadable.replace(alarm(stranger), {})).rejects.toThrow(
      /alarm: cannot restore: there is no register CTRL/,
    );
    await expect(reloadable.replace(alarm(second, { fails: true }), {})).rejects.toThrow("not today");
    const [plain] = [definePlugin({ name: "test/plain", config: AnyConfig, setup: () => ({}) }).spec];
    await expect(reloadable.replace(plain, {})).rejects.toThrow(/the new code has no restore/);
    expect([read(0), read(8)]).toEqual([1, 1]);
    bench.clock.advance(1);
    expect(bench.interrupts.level(5)).toBe(true);
    await reloadable.replace(alarm(second), {});
    expect(read(8)).toBe(2);
  });

  it("goes on where code throws as it is closed: refused, with the old; taken over, with the new", async () => {
    const { reloadable, bench, read } = await start();
    const clumsy = (map: RegisterMap<RegisterSpecs>, fails: boolean): DevicePluginSpec<never, never> => {
      const spec = alarm(map, { fails });
      return {
        ...spec,
        setup: (ctx, config) => {
          ctx.onClose(() => {
            throw new Error("clumsy");
          });
          return spec.setup(ctx, config);
        },
      };
    };
    bench.mmio.write(0x1000, 4, 1);
    await expect(reloadable.replace(clumsy(second, true), {})).rejects.toThrow("not today");
    expect(read(8)).toBe(1);
    bench.clock.advance(1000);
    expect(bench.interrupts.level(5)).toBe(true);
    await reloadable.replace(clumsy(second, false), {});
    await expect(reloadable.replace(alarm(second), {})).rejects.toThrow("clumsy");
    expect([read(8), read(4)]).toEqual([2, 1]);
  });

  it("refused, leaves the old code its consoles, its levels and what it opened", async () => {
    const ends: { readonly name: string; isClosed: boolean; receive?: (bytes: Uint8Array) => number }[] = [];
    const heard: string[] = [];
    const charEnd = (name: string): CharEnd => {
      const end: (typeof ends)[number] = { name, isClosed: false };
      ends.push(end);
      return {
        write: () => undefined,
        connect: (receive) => {
          end.receive = receive;
        },
        resume: () => undefined,
        close: () => void (end.isClosed = true),
      };
    };
    const console = charEnd("console");
    const modem = (
      name: string,
      options: { readonly kind: string; readonly gsi: number; readonly fails: boolean },
    ) =>
      definePlugin({
        name: "test/modem",
        config: AnyConfig,
        async setup(ctx) {
          const receive = (bytes: Uint8Array): number => {
            heard.push(`${name} ${bytes.join()}`);
            return bytes.length;
          };
          ctx.get(Console).connect(receive);
          (await ctx.get(HostEnds).char({ kind: "same" })).connect(receive);
          (await ctx.get(HostEnds).char({ kind: options.kind })).connect(receive);
          ctx.irq(5).set(name === "old");
          ctx.irq(options.gsi).set(true);
          if (options.fails) throw new Error("not today");
          return { save: () => ({}), restore: () => undefined };
        },
      }).spec;
    const reloadable = new ReloadableDevice(modem("old", { kind: "first", gsi: 6, fails: false }));
    const bench = await testBench(
      { spec: reloadable.spec, input: {} },
      {
        prepare: (machine) =>
          machine.provide(Console, console).provide(HostEnds, {
            block: () => Promise.reject(new Error("none")),
            char: ({ kind }) => Promise.resolve(charEnd(kind)),
            net: () => Promise.reject(new Error("none")),
            directory: () => Promise.reject(new Error("none")),
            vsock: () => Promise.reject(new Error("none")),
          }),
      },
    );
    const type = (): readonly string[] => {
      for (const { receive, isClosed } of ends) if (!isClosed) receive?.(Uint8Array.of(1));
      return heard.splice(0);
    };
    const open = (): readonly string[] => ends.filter(({ isClosed }) => !isClosed).map(({ name }) => name);
    expect([type(), open()]).toEqual([
      ["old 1", "old 1", "old 1"],
      ["console", "same", "first"],
    ]);
    const refused = reloadable.replace(modem("new", { kind: "second", gsi: 7, fails: true }), {});
    await expect(refused).rejects.toThrow("not today");
    expect([type(), open(), bench.interrupts.levels()]).toEqual([
      ["old 1", "old 1", "old 1"],
      ["console", "same", "first"],
      { 5: true, 6: true, 7: false },
    ]);
    await reloadable.replace(modem("new", { kind: "second", gsi: 7, fails: false }), {});
    expect([type(), open(), bench.interrupts.levels()]).toEqual([
      ["new 1", "new 1", "new 1"],
      ["console", "same", "second"],
      { 5: false, 6: false, 7: true },
    ]);
    await bench.close();
    expect(open()).toEqual(["console"]);
  });

  it("closes what the old code opened, once", async () => {
    const closed: string[] = [];
    const { reloadable, bench } = await start({ closed });
    await reloadable.replace(alarm(second, { closed }), {});
    expect(closed).toEqual(["3 registers"]);
    await bench.close();
    expect(closed).toEqual(["3 registers", "4 registers"]);
  });

  it("keeps its place on the PCI bus and its disk", async () => {
    const disk = new FakeDisk(4096);
    let opened = 0;
    const gadget = (answer: number): DevicePluginSpec<never, never> =>
      definePlugin({
        name: "test/gadget",
        config: AnyConfig,
        async setup(ctx) {
          const backend = await ctx.get(HostEnds).block({ kind: "fake" }, { readOnly: false });
          ctx.onClose(() => backend.close());
          const fn: PciFunction = new PciFunction(ctx, {
            vendorId: 0x1234,
            deviceId: 0x5678,
            classCode: 0xff_0000,
            interruptPin: 1,
            bars: [
              {
                index: 0,
                kind: "memory32",
                length: 4096,
                regions: [
                  {
                    offset: 0,
                    length: 4096,
                    handler: {
                      read: (offset) => (offset === 0 ? answer : backend.size),
                      write: (_offset, _width, value) => fn.setIntx(value === answer),
                    },
                  },
                ],
              },
            ],
          });
          ctx.get(PciBus).attach(fn);
          return { save: () => ({}), restore: () => undefined };
        },
      }).spec;
    const reloadable = new ReloadableDevice(gadget(1));
    const bench = await testBench(
      { spec: reloadable.spec, input: {} },
      {
        prepare: (machine) =>
          machine.provide(HostEnds, {
            block: () => Promise.resolve(disk).finally(() => opened++),
            char: () => Promise.reject(new Error("none")),
            net: () => Promise.reject(new Error("none")),
            directory: () => Promise.reject(new Error("none")),
            vsock: () => Promise.reject(new Error("none")),
          }),
      },
    );
    const [found] = bench.pci.enumerate();
    const bar = found!.bars[0]!.base;
    expect(bench.mmio.read(bar, 4)).toBe(1);
    await reloadable.replace(gadget(2), {});
    expect([bench.mmio.read(bar, 4), bench.mmio.read(bar + 4, 4), opened, disk.isClosed]).toEqual([
      2,
      4096,
      1,
      false,
    ]);
    // The root still speaks to the function that it was given: the new one answers.
    bench.mmio.write(bar, 4, 2);
    expect([bench.interrupts.level(16), found!.fn.configRead(6, 2) & 8]).toEqual([true, 8]);
    found!.fn.configWrite(4, 2, 0);
    expect(bench.mmio.read(bar, 4)).toBe(0xffff_ffff);
    await bench.close();
    expect(disk.isClosed).toBe(true);
  });
});
