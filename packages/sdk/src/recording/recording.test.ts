import { Console, type CharBackend, HostEnds } from "@northbridge/core/contracts";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { bit, type ConfigSchema, definePlugin, type DeviceEntry, registerMap } from "../index.ts";
import { PciBus, PciFunction } from "../pci/index.ts";
import { FakeDisk, testBench } from "../testing/index.ts";
import {
  describeTrace,
  expectSameAsTrace,
  readTrace,
  recordedDevice,
  replayDevice,
  shrinkTrace,
} from "./index.ts";

const AnyConfig: ConfigSchema<object, { shift?: number }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const map = registerMap("adder", {
  CTRL: { offset: 0, fields: { START: bit(0, { access: "wo" }), IRQ: bit(1) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0) } },
  TARGET: { offset: 8 },
  STAMP: { offset: 12, access: "ro" },
});

type Bug = "adds two" | "forgets the interrupt" | "throws at 255";

/** Adds one to a byte of guest memory a microsecond after it is told to, and stamps the time. */
function adder(bug?: Bug): DeviceEntry {
  return definePlugin({
    name: "test/adder",
    config: AnyConfig,
    setup(ctx) {
      const { CTRL, STATUS } = map.masks;
      const line = ctx.irq(5);
      const sync = (): void => line.set((regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0);
      const timer = ctx.clock.createTimer(() => {
        const before = ctx.memory.readU8(regs.values.TARGET);
        if (bug === "throws at 255" && before === 255) throw new Error("cannot carry");
        ctx.memory.writeU8(regs.values.TARGET, before + (bug === "adds two" && before > 100 ? 2 : 1));
        regs.values.STATUS |= STATUS.DONE;
        regs.values.STAMP = Math.floor(ctx.clock.nowNs() / 1000) >>> 0;
        if (bug !== "forgets the interrupt") sync();
      });
      const start = (_stored: number, _previous: number, written: number): void => {
        if ((written & CTRL.START) !== 0) timer.arm(ctx.clock.nowNs() + 1000);
      };
      const regs = map.create({ hooks: { CTRL: { write: start } }, sync });
      ctx.mapMmio({ base: 0xfe00_0000, length: map.length }, regs.handler);
      return {
        reset: () => {
          regs.reset();
          timer.disarm();
          line.set(false);
        },
      };
    },
  })();
}

let chunks: Uint8Array[] = [];
beforeEach(() => {
  chunks = [];
});
const sink = (bytes: Uint8Array): void => void chunks.push(bytes);
const recording = (): Uint8Array => Uint8Array.from(chunks.flatMap((chunk) => [...chunk]));

/** Three additions; the last one to a byte that is 200. */
async function recordAdditions(bug?: Bug, last = 200): Promise<Uint8Array> {
  const bench = await testBench(recordedDevice(adder(bug), sink), { registers: map });
  for (const [target, value] of [
    [0x2000, 7],
    [0x2001, 8],
    [0x2000, last],
  ] as const) {
    bench.memory.bytes[target] = value;
    bench.regs.TARGET.write(target);
    bench.regs.CTRL.write({ START: 1, IRQ: 1 });
    bench.clock.advance(1000);
    expect(bench.regs.STATUS.read()).toBe(1);
    bench.regs.STATUS.write(1);
    bench.regs.STAMP.read();
  }
  bench.device.reset?.();
  await bench.close();
  return recording();
}

describe("a recorded device", () => {
  it("is shown by names", async () => {
    const lines = describeTrace(readTrace(await recordAdditions()), map);
    expect(lines.slice(0, 12)).toEqual([
      "setUp",
      "line into irq 5",
      "map adder0 at mmio 0xfe000000 +0x10",
      "write TARGET = 0x2000",
      "write CTRL = 0x3 { START IRQ }",
      "  now 0.000000 ms",
      "  timer 0 armed for 0.001000 ms",
      "timer 0 fires",
      "  now 0.001000 ms",
      "  memory 0x2000 holds 07",
      "  dma 0x2000 1 bytes: 08",
      "  now 0.001000 ms",
    ]);
    expect(lines.at(-1)).toBe("reset");
  });

  it("replays without a bench, again and again", async () => {
    const bytes = await recordAdditions();
    await expectSameAsTrace(bytes, adder());
    expect(await replayDevice(readTrace(bytes), adder())).toEqual({ entries: 20 });
  });

  it("has the wall clock that the device found when its machine went on", async () => {
    const wall = definePlugin({
      name: "test/wall",
      config: AnyConfig,
      setup(ctx) {
        let shown = ctx.clock.epochMs;
        ctx.mapMmio({ base: 0xfe00_0000, length: 4 }, { read: () => shown, write: () => undefined });
        return {
          resume: () => {
            shown = ctx.clock.epochMs;
          },
        };
      },
    })();
    const bench = await testBench(recordedDevice(wall, sink));
    for (const epochMs of [0, 5000, 5000, 7000]) {
      Object.assign(bench.clock, { epochMs });
      bench.device.resume?.();
      expect(bench.mmio.read(0xfe00_0000, 4)).toBe(epochMs);
    }
    await bench.close();
    const lines = describeTrace(readTrace(recording())).map((line) => line.trim());
    expect(lines.filter((line) => /^(resume|epoch)/.test(line))).toEqual([
      ...["resume", "resume", "epoch 5000", "resume", "resume", "epoch 7000"],
    ]);
    await expectSameAsTrace(recording(), wall);
  });

  it("has the wall clock that the device finds whenever it looks, and the time beside it", async () => {
    const wall = definePlugin({
      name: "test/wall",
      config: AnyConfig,
      setup({ clock, mapMmio }) {
        let restored = 0;
        const read = (offset: number): number =>
          offset === 0 ? restored : clock.nowNs() + clock.epochMs + 1000 * clock.nowNs();
        mapMmio({ base: 0xfe00_0000, length: 8 }, { read, write: () => undefined });
        return {
          save: () => ({}),
          restore: () => {
            restored = clock.epochMs;
          },
        };
      },
    })();
    const bench = await testBench(recordedDevice(wall, sink));
    const shown = (): number[] => [0, 4].map((offset) => bench.mmio.read(0xfe00_0000 + offset, 4));
    Object.assign(bench.clock, { epochMs: 5000 });
    bench.device.restore?.({});
    expect(shown()).toEqual([5000, 5000]);
    bench.clock.advance(3);
    Object.assign(bench.clock, { epochMs: 7000 });
    expect(shown()).toEqual([5000, 10_003]);
    Object.assign(bench.clock, { epochMs: 4000 });
    expect(shown()).toEqual([5000, 7003]);
    await bench.close();
    await expectSameAsTrace(recording(), wall);
  });

  it("has every reading of a clock that goes on meanwhile", async () => {
    const stopwatch = (passed: (ns: number) => void): DeviceEntry =>
      definePlugin({
        name: "test/stopwatch",
        config: AnyConfig,
        setup({ clock, mapMmio }) {
          const read = (): number => {
            const start = clock.nowNs();
            passed(5);
            return clock.nowNs() - start;
          };
          mapMmio({ base: 0xfe00_0000, length: 4 }, { read, write: () => undefined });
          return {};
        },
      })();
    const bench = await testBench(
      recordedDevice(
        stopwatch((ns) => {
          bench.clock.jump(ns);
        }),
        sink,
      ),
    );
    for (let turn = 0; turn < 3; turn++) expect(bench.mmio.read(0xfe00_0000, 4)).toBe(5);
    await bench.close();
    await expectSameAsTrace(
      recording(),
      stopwatch(() => undefined),
    );
  });

  it("takes six bytes for an access in which nothing else happens", async () => {
    const bench = await testBench(recordedDevice(adder(), sink), { registers: map });
    for (let i = 0; i < 1000; i++) bench.regs.TARGET.read();
    await bench.close();
    expect(recording().length).toBeLessThan(1000 * 6 + 500);
  });

  it("shows where another version does something else", async () => {
    const bytes = await recordAdditions();
    await expect(expectSameAsTrace(bytes, adder("adds two"), { registers: map })).rejects.toThrow(
      /timer 0 fires: expected dma 0x2000 1 bytes: c9, found dma 0x2000 1 bytes: ca\nbefore it:\n.*write CTRL = 0x3 \{ START IRQ \}/s,
    );
    await expect(expectSameAsTrace(bytes, adder("forgets the interrupt"))).rejects.toThrow(
      /timer 0 fires: expected irq 5 up, and the device did nothing more/,
    );
  });

  it("is cut to the shortest beginning that fails", async () => {
    const bytes = await recordAdditions();
    const cut = await shrinkTrace(bytes, adder("adds two"));
    expect(describeTrace(readTrace(cut!)).filter((line) => line === "timer 0 fires")).toHaveLength(3);
    expect(describeTrace(readTrace(cut!)).at(-1)).toBe("  irq 5 up");
    await expect(expectSameAsTrace(cut!, adder("adds two"))).rejects.toThrow(/found dma/);
    expect(await shrinkTrace(bytes, adder())).toBeUndefined();
    expect(await shrinkTrace(cut!, adder())).toBeUndefined();
  });

  it("that threw throws again", async () => {
    await expect(recordAdditions("throws at 255", 255)).rejects.toThrow("cannot carry");
    chunks = [];
    const bench = await testBench(recordedDevice(adder("throws at 255"), sink), { registers: map });
    bench.memory.bytes[0] = 255;
    bench.regs.CTRL.write({ START: 1 });
    expect(() => bench.clock.advance(1000)).toThrow("cannot carry");
    await bench.close();
    await expect(expectSameAsTrace(recording(), adder("throws at 255"))).rejects.toThrow(
      /timer 0 fires: the device threw: cannot carry/,
    );
    await expect(expectSameAsTrace(recording(), adder())).rejects.toThrow(
      /expected throws: cannot carry, found dma/,
    );
  });

  it("is read as far as it goes where the machine was killed", async () => {
    const bytes = await recordAdditions();
    const { ends } = readTrace(bytes);
    const [first = 0] = ends;
    // Between records and in the middle of them, between entries and in the middle of them.
    for (let length = first; length < bytes.length; length++) {
      const trace = readTrace(bytes.slice(0, length));
      expect(await replayDevice(trace, adder()), `${length} bytes`).not.toHaveProperty("failure");
    }
    const [, , ...entries] = ends.map((end) => readTrace(bytes.slice(0, end)).isTruncated);
    expect([entries.includes(true), entries.includes(false)]).toEqual([true, true]);
    expect(() => readTrace(Uint8Array.of(1, 2, 3))).toThrow(/not a trace of a device/);
  });

  it("is refused where it is damaged", async () => {
    const bytes = await recordAdditions();
    const at = String.fromCharCode(...bytes).indexOf('"name":"adder0"');
    bytes[at] = 0x3b;
    expect(() => readTrace(bytes)).toThrow(/not a trace of a device: record 2 is damaged/);
  });

  it("replays whatever was done to it", async () => {
    const step = fc.record({
      offset: fc.constantFrom(0, 1, 4, 8, 12),
      value: fc.constantFrom(0, 1, 2, 3, 0x100, 0xffff_ffff),
      wait: fc.constantFrom(0, 500, 1000),
      byte: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        chunks = [];
        const bench = await testBench(recordedDevice(adder(), sink), { registers: map });
        for (const { offset, value, wait, byte } of steps) {
          bench.memory.bytes[0x100] = byte;
          bench.mmio.write(0xfe00_0000 + offset, 1, value & 0xff);
          bench.mmio.write(0xfe00_0000 + (offset & ~3), 4, value);
          bench.clock.advance(wait);
          bench.mmio.read(0xfe00_0000 + (offset & ~3), 4);
        }
        await bench.close();
        await expectSameAsTrace(recording(), adder());
      }),
      { numRuns: 100 },
    );
  });
});

/** Copies the console's input to a disk block and back to the console, from behind a PCI BAR. */
const copier = (bug?: "does not interrupt"): DeviceEntry =>
  definePlugin({
    name: "test/copier",
    config: AnyConfig,
    async setup(ctx) {
      const console = ctx.get(Console);
      const disk = await ctx.get(HostEnds).block({ kind: "fake" }, { readOnly: false });
      const typed: number[] = [];
      const regs = map.create({
        hooks: {
          CTRL: {
            write: () => {
              const block = new Uint8Array(disk.blockSize);
              block.set(typed.splice(0));
              void disk.write(0, [block]).then(async () => {
                const back = ctx.memory.view(0x1000, 512);
                if (back === undefined) return;
                await disk.read(0, [back]);
                ctx.memory.written(0x1000, 512);
                for (const byte of back.subarray(0, 4)) console.write(byte);
                fn.setIntx(bug === undefined);
              });
            },
          },
        },
      });
      console.connect((bytes) => {
        typed.push(...bytes.subarray(0, 3));
        return Math.min(3, bytes.length);
      });
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
            regions: [{ offset: 0, length: 4096, handler: regs.handler }],
          },
        ],
      });
      ctx.get(PciBus).attach(fn);
      return { save: () => ({}), restore: () => undefined };
    },
  })();

it("ends an access to the configuration space that throws", async () => {
  const refuse = (): void => {
    throw new Error("no such capability");
  };
  const odd = definePlugin({
    name: "test/odd",
    config: AnyConfig,
    setup(ctx) {
      const capability = { id: 9, body: new Uint8Array(4), afterWrite: refuse, beforeRead: refuse };
      const fn = new PciFunction(ctx, {
        ...{ vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff_0000 },
        capabilities: [capability],
      });
      ctx.get(PciBus).attach(fn);
      return {};
    },
  });
  const bench = await testBench(recordedDevice(odd(), sink));
  const [fn] = bench.pci.functions;
  expect(() => fn?.configWrite(0x42, 1, 1)).toThrow("no such capability");
  expect(() => fn?.configRead(0x42, 1)).toThrow("no such capability");
  await bench.close();
  const lines = describeTrace(readTrace(recording()));
  expect(lines.slice(-4)).toEqual([
    "config write 0x42 = 0x1 (1 bytes)",
    "  throws: no such capability",
    "config read 0x42 = 0x0 (1 bytes)",
    "  throws: no such capability",
  ]);
});

it("records a PCI device with a console and a disk, by promises and callbacks", async () => {
  const disk = new FakeDisk(4096);
  let type: ((bytes: Uint8Array) => number) | undefined;
  const shown: number[] = [];
  const console: CharBackend = {
    write: (byte) => void shown.push(byte),
    connect: (receive) => {
      type = receive;
      receive(Uint8Array.of(9));
    },
    resume: () => undefined,
  };
  const bench = await testBench(recordedDevice(copier(), sink), {
    registers: map,
    region: "copier0.bar0",
    prepare: (machine) =>
      machine.provide(Console, console).provide(HostEnds, {
        block: () => Promise.resolve(disk),
        char: () => Promise.reject(new Error("none")),
        net: () => Promise.reject(new Error("none")),
        directory: () => Promise.reject(new Error("none")),
        vsock: () => Promise.reject(new Error("none")),
      }),
  });
  bench.pci.enumerate();
  expect(type?.(Uint8Array.of(65, 66, 67, 68))).toBe(3);
  bench.regs.CTRL.write(1);
  await bench.settle();
  expect(shown).toEqual([9, 65, 66, 67]);
  bench.regs.TARGET.read();
  await bench.close();
  const text = describeTrace(readTrace(recording())).join("\n");
  expect(text).toMatch(/config write 0x10 = 0xffffffff/);
  expect(text).toMatch(/promise 2 settles: \{"filled":\{"0":"09414243/);
  await expectSameAsTrace(recording(), copier());
  // What failed is behind a promise: the cut trace has all that it set off, and no more.
  const cut = await shrinkTrace(recording(), copier("does not interrupt"));
  expect(describeTrace(readTrace(cut!)).at(-1)).toBe("irq 16 up");
  await expectSameAsTrace(cut!, copier());
  await expect(expectSameAsTrace(cut!, copier("does not interrupt"))).rejects.toThrow(
    /irq 16 up: the device did not/,
  );
});
