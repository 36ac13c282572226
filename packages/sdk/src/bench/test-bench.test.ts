import { mmioBus, VirtualClock } from "@northbridge/core";
import { describe, expect, it } from "vitest";
import {
  bit,
  type BusAccess,
  type ConfigSchema,
  definePlugin,
  type IoHandler,
  registerMap,
} from "../index.ts";
import { PciBus, PciFunction } from "../pci/index.ts";
import { deviceMatchers } from "../vitest/index.ts";
import { FakeDisk, FakeNet, testBench } from "../testing/index.ts";

expect.extend(deviceMatchers);

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

const map = registerMap("copier", {
  CTRL: { offset: 0, fields: { START: bit(0, { access: "wo" }), IRQ: bit(1) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0), ERROR: bit(1) } },
  TARGET: { offset: 8 },
});

/** Writes four bytes to guest memory a microsecond after it is told to. */
const copier = definePlugin({
  name: "test/copier",
  config: NoConfig,
  setup(ctx) {
    const { CTRL, STATUS } = map.masks;
    const line = ctx.irq(5);
    const sync = (): void => line.set((regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0);
    const timer = ctx.clock.createTimer(() => {
      const isWritten = ctx.memory.write(regs.values.TARGET, Uint8Array.of(1, 2, 3, 4));
      regs.values.STATUS |= isWritten ? STATUS.DONE : STATUS.ERROR;
      sync();
    });
    const regs = map.create({
      hooks: {
        CTRL: {
          write: (_stored, _previous, written) => {
            if ((written & CTRL.START) !== 0) timer.arm(ctx.clock.nowNs() + 1000);
          },
        },
      },
      sync,
    });
    ctx.mapMmio({ base: 0xfe00_0000, length: map.length }, regs.handler);
    return {};
  },
});

const start = async () => {
  const bench = await testBench(copier(), { registers: map });
  bench.regs.TARGET.write(0x2000);
  bench.regs.CTRL.write({ START: 1, IRQ: 1 });
  return bench;
};

describe("testBench()", () => {
  it("drives a device by register names, guest time and memory", async () => {
    const bench = await start();
    expect(bench).not.toRaiseInterrupt(() => bench.clock.advance(999));
    expect(bench).toMatchTrace(() => {
      bench.clock.advance(1);
      bench.regs.STATUS.write({ DONE: 1 });
    }, ["dma 0x2000 4 bytes", "irq 5 up", "write STATUS = 0x1 { DONE }", "irq 5 down"]);
    expect([bench.interrupts.edges(5), bench.interrupts.level(5)]).toEqual([1, false]);
  });

  it("lets DMA arrive behind the interrupt that says it is there", async () => {
    const bench = await start();
    bench.memory.delayNext(500);
    expect(bench).toMatchTrace(() => bench.clock.advance(1499), ["irq 5 up"]);
    expect([...bench.memory.bytes.subarray(0x2000, 0x2004)]).toEqual([0, 0, 0, 0]);
    expect(bench).toWriteGuestMemory(() => bench.clock.advance(1), 0x2000, [1, 2, 3, 4]);
    bench.memory.delayNext(500);
    bench.regs.TARGET.write(0xffff_0000);
    bench.regs.CTRL.write({ START: 1 });
    bench.clock.advance(1000);
    expect(bench.regs.STATUS.fields().ERROR).toBe(1);
  });

  it("has matchers that tell what happened instead", async () => {
    const bench = await start();
    expect(bench).toWriteGuestMemory(() => bench.clock.advance(1000), 0x2000, [1, 2, 3, 4]);
    bench.regs.CTRL.write({ START: 1, IRQ: 1 });
    bench.regs.STATUS.write(3);
    expect(() => expect(bench).toRaiseInterrupt(() => bench.clock.advance(1000), { gsi: 6 })).toThrow(
      'expected {"gsi":6}; raised: {"gsi":5}',
    );
    // The bytes are there, but nobody wrote them.
    expect(() => expect(bench).toWriteGuestMemory(() => undefined, 0x2000, [1, 2, 3, 4])).toThrow(
      /wrote nothing/,
    );
  });

  it("fails what it is told to, at the guest time it is told", async () => {
    const bench = await start();
    bench.at(500, () => bench.memory.failNext());
    bench.clock.advance(1000);
    expect(bench.regs.STATUS.fields()).toEqual({ DONE: 0, ERROR: 1 });
    bench.regs.STATUS.write(3);
    bench.interrupts.loseNext();
    bench.regs.CTRL.write({ START: 1, IRQ: 1 });
    bench.clock.advance(1000);
    expect([bench.regs.STATUS.read(), bench.interrupts.level(5), bench.interrupts.lost]).toEqual([
      1,
      false,
      1,
    ]);
    bench.regs.STATUS.write(1);
    bench.regs.CTRL.write({ START: 1, IRQ: 1 });
    bench.clock.advance(1000);
    expect(bench.interrupts.level(5)).toBe(true);
  });

  it("enumerates a PCI device and finds its registers behind a BAR", async () => {
    const plugin = definePlugin({
      name: "test/pci",
      config: NoConfig,
      setup(ctx) {
        const regs = map.create();
        const fn = new PciFunction(ctx, {
          vendorId: 0x1234,
          deviceId: 0x11e8,
          classCode: 0xff0000,
          interruptPin: 1,
          bars: [
            {
              index: 0,
              kind: "memory64",
              length: 4096,
              regions: [{ offset: 0, length: map.length, handler: regs }],
            },
            { index: 2, kind: "io", length: 16, regions: [{ offset: 0, length: map.length, handler: regs }] },
          ],
        });
        ctx.get(PciBus).attach(fn);
        return {};
      },
    });
    const bench = await testBench(plugin(), { registers: map });
    expect(() => bench.regs).toThrow(/maps no region/);
    const [found] = bench.pci.enumerate();
    expect(found).toMatchObject({ vendorId: 0x1234, deviceId: 0x11e8 });
    expect(found!.bars.map(({ index, kind, length }) => [index, kind, length])).toEqual([
      [0, "memory64", 4096],
      [2, "io", 16],
    ]);
    bench.regs.TARGET.write(77);
    const io = found!.bars[1]!;
    expect(io.bus.read(io.base + 8, 4)).toBe(77);
  });
});

describe("a bench refuses what a machine refuses", () => {
  const ROOM = { base: 0x1000, length: 8 };
  /** On the bench, of a device and of one behind a BAR; then in a machine. */
  const problemsWith = async (handler: IoHandler, access: (bus: BusAccess, base: number) => unknown) => {
    const mapped = definePlugin({
      name: "test/gadget",
      config: NoConfig,
      setup(ctx) {
        ctx.mapMmio(ROOM, handler);
        const regions = [{ offset: 0, length: 16, handler }];
        const id = { vendorId: 1, deviceId: 1, classCode: 0xff0000 };
        ctx
          .get(PciBus)
          .attach(
            new PciFunction(ctx, { ...id, bars: [{ index: 0, kind: "memory32", length: 16, regions }] }),
          );
        return {};
      },
    });
    const bench = await testBench(mapped({}, { id: "gadget" }));
    const bar = bench.pci.enumerate()[0]?.bars[0]?.base ?? 0;
    const machine = mmioBus();
    machine.map({ name: "gadget", ...ROOM }, handler);
    return [
      () => access(bench.mmio, ROOM.base),
      () => access(bench.mmio, bar),
      () => access(machine, ROOM.base),
    ].map(messageOf);
  };
  const messageOf = (failing: () => unknown): string => {
    try {
      failing();
    } catch (error) {
      return (error as Error).message.replaceAll("gadget.bar0", "gadget");
    }
    return "nothing";
  };

  it.each([
    [() => Number.NaN, "NaN"],
    [() => -1, "-1"],
    [() => 0x1_0000, "65536"],
    [() => 5n as never, "the bigint 5n"],
    [() => "5" as never, 'the string "5"'],
    [() => undefined as never, "undefined"],
  ])("as an answer: %s", async (read, found) => {
    const handler = { read, write: () => undefined };
    const problems = await problemsWith(handler, (bus, base) => bus.read(base + 4, 2));
    const expected = `device gadget: read gadget+0x4 (2 bytes): gave ${found}, expected an unsigned integer of the access's width`;
    expect(problems).toEqual([expected, expected, expected]);
  });

  it("as handlers: async ones", async () => {
    const later = (): never => Promise.reject(new Error("later")) as never;
    const handler = { read: later, write: later };
    const promise =
      "gave a promise; register handlers are synchronous: queue the work and complete it by an interrupt";
    const read = `device gadget: read gadget+0x0 (4 bytes): ${promise}`;
    expect(await problemsWith(handler, (bus, base) => bus.read(base, 4))).toEqual([read, read, read]);
    const write = `device gadget: write gadget+0x0 (1 byte): ${promise}`;
    expect(
      await problemsWith(handler, (bus, base) => {
        bus.write(base, 1, 7);
      }),
    ).toEqual([write, write, write]);
  });

  it("as a deadline: NaN", async () => {
    const { clock } = await testBench(copier());
    for (const each of [clock, new VirtualClock()]) {
      const timer = each.createTimer(() => undefined);
      expect(() => {
        timer.arm(Number.NaN);
      }).toThrow("a timer cannot be armed for NaN");
      expect(() => {
        timer.arm(undefined as never);
      }).toThrow("a timer cannot be armed for undefined");
    }
  });

  it("as a firmware entry: one of a kind that there is not", async () => {
    const odd = definePlugin({
      name: "test/odd",
      config: NoConfig,
      setup(ctx) {
        ctx.describe({ kind: "acpi" } as never);
        return {};
      },
    });
    await expect(testBench(odd())).rejects.toThrow(
      /describe: expected one of the kinds acpiDevice, .*found acpi$/,
    );
  });
});

describe("FakeDisk", () => {
  it("fails, tears and delays requests on guest time", async () => {
    const { clock } = await testBench(copier());
    const disk = new FakeDisk(4096, { clock });
    disk.failNext("EIO", { on: "write", after: 100 });
    await disk.read(0, [new Uint8Array(512)]);
    await expect(disk.write(512, [new Uint8Array(300).fill(7), new Uint8Array(212).fill(7)])).rejects.toThrow(
      "write at 512: EIO",
    );
    expect(disk.bytes.reduce((sum, byte) => sum + byte, 0)).toBe(700);
    disk.latencyNs = 1000;
    let isDone = false;
    const read = disk.read(0, [new Uint8Array(512)]).then(() => (isDone = true));
    clock.advance(999);
    await Promise.resolve();
    expect(isDone).toBe(false);
    clock.advance(1);
    expect(await read).toBe(true);
    disk.latencyNs = 0;
    await expect(disk.read(4096, [new Uint8Array(512)])).rejects.toThrow(/leave the disk/);
  });
});

describe("FakeNet", () => {
  it("keeps frames until there is a buffer, and says when it has room again", () => {
    const net = new FakeNet();
    const taken: number[] = [];
    let buffers = 1;
    let writable = 0;
    net.connect(
      (frame) => buffers-- > 0 && taken.push(frame[0] ?? 0) > 0,
      () => writable++,
    );
    net.deliver(Uint8Array.of(1));
    net.deliver(Uint8Array.of(2));
    expect([taken, net.waiting]).toEqual([[1], 1]);
    buffers = 1;
    net.resume();
    expect([taken, net.waiting]).toEqual([[1, 2], 0]);
    net.isFull = true;
    expect(net.send([Uint8Array.of(1)])).toBe(false);
    net.isFull = false;
    expect([writable, net.send([Uint8Array.of(1), Uint8Array.of(2, 3)])]).toEqual([1, true]);
    expect(net.sent).toEqual([Uint8Array.of(1, 2, 3)]);
  });
});
