import { FakeBus, FakeLine, FakePorts } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { I8259Pair, type I8259PairStateV1 } from "./i8259-pair.ts";

const MASTER = 0x20;
const SLAVE = 0xa0;
const ELCR = 0x4d0;

function setup() {
  const intr = new FakeLine();
  const pic = new I8259Pair({
    intr: (level) => {
      intr.set(level);
    },
  });
  const bus = new FakeBus();
  bus.map({ name: "master", base: MASTER, length: 2, widest: 1 }, pic.master);
  bus.map({ name: "slave", base: SLAVE, length: 2, widest: 1 }, pic.slave);
  bus.map({ name: "elcr", base: ELCR, length: 2, widest: 1 }, pic.elcr);
  const ports = new FakePorts(bus);
  const pulse = (irq: number) => {
    pic.setIrq(irq, true);
    pic.setIrq(irq, false);
  };
  return { pic, intr, ports, pulse };
}

/** As Linux's init_8259A: vectors 0x30–0x3F, cascade on 2, all unmasked. */
function initialised(icw4 = 0x01) {
  const chip = setup();
  const { ports } = chip;
  for (const [port, icw2, icw3] of [
    [MASTER, 0x30, 0x04],
    [SLAVE, 0x38, 0x02],
  ] as const) {
    ports.out(port, 0x11);
    ports.out(port + 1, icw2);
    ports.out(port + 1, icw3);
    ports.out(port + 1, port === MASTER ? icw4 : 0x01);
    ports.out(port + 1, 0);
  }
  return chip;
}

const irr = (chip: ReturnType<typeof setup>, port: number) => {
  chip.ports.out(port, 0x0a);
  return chip.ports.in(port);
};
const isr = (chip: ReturnType<typeof setup>, port: number) => {
  chip.ports.out(port, 0x0b);
  return chip.ports.in(port);
};

describe("I8259Pair", () => {
  it("keeps its mask register as written, which is how Linux probes for it", () => {
    const { ports } = initialised();
    ports.out(SLAVE + 1, 0xff);
    ports.out(MASTER + 1, 0xfb);
    expect(ports.in(MASTER + 1)).toBe(0xfb);
  });

  it("delivers an edge and holds lower and equal levels back until EOI", () => {
    const chip = initialised();
    chip.pulse(4);
    expect(chip.intr.level).toBe(true);
    expect(chip.pic.acknowledge()).toBe(0x34);
    expect(isr(chip, MASTER)).toBe(0x10);
    chip.pulse(4);
    chip.pulse(5);
    expect(chip.intr.level).toBe(false);
    chip.pulse(1);
    expect(chip.pic.acknowledge()).toBe(0x31);
    chip.ports.out(MASTER, 0x20);
    expect(isr(chip, MASTER)).toBe(0x10);
    expect(chip.intr.level).toBe(false);
    chip.ports.out(MASTER, 0x64); // specific EOI of level 4
    expect(chip.pic.acknowledge()).toBe(0x34);
    chip.ports.out(MASTER, 0x20);
    expect(chip.pic.acknowledge()).toBe(0x35);
  });

  it("routes the slave through input 2", () => {
    const chip = initialised();
    chip.pulse(8);
    expect(irr(chip, MASTER)).toBe(0x04);
    expect(chip.pic.acknowledge()).toBe(0x38);
    expect([isr(chip, MASTER), isr(chip, SLAVE)]).toEqual([0x04, 0x01]);
    chip.ports.out(SLAVE, 0x60);
    chip.ports.out(MASTER, 0x62);
    expect([isr(chip, MASTER), isr(chip, SLAVE)]).toEqual([0, 0]);
    expect(chip.intr.level).toBe(false);
  });

  it("lets a slave in service ask again in special fully nested mode only", () => {
    for (const [icw4, expected] of [
      [0x01, false],
      [0x11, true],
    ] as const) {
      const chip = initialised(icw4);
      chip.pulse(12);
      chip.pic.acknowledge();
      chip.pulse(9);
      expect(chip.intr.level).toBe(expected);
      chip.pulse(3);
      expect(chip.pic.acknowledge()).toBe(expected ? 0x39 : 0x37); // IRQ3 is below the cascade
    }
  });

  it("answers a request that has gone with the spurious vector of input 7", () => {
    const chip = initialised();
    chip.ports.out(ELCR, 0x20);
    chip.pic.setIrq(5, true);
    expect(chip.intr.level).toBe(true);
    chip.pic.setIrq(5, false);
    expect(chip.pic.acknowledge()).toBe(0x37);
    expect(isr(chip, MASTER)).toBe(0);
  });

  it("repeats a level while the line is high", () => {
    const chip = initialised();
    chip.ports.out(ELCR + 1, 0x02);
    chip.pic.setIrq(9, true);
    expect(chip.pic.acknowledge()).toBe(0x39);
    chip.ports.out(SLAVE, 0x20);
    chip.ports.out(MASTER, 0x20);
    expect(chip.pic.acknowledge()).toBe(0x39);
    chip.pic.setIrq(9, false);
    chip.ports.out(SLAVE, 0x20);
    chip.ports.out(MASTER, 0x20);
    expect(chip.intr.level).toBe(false);
  });

  it("keeps the timer, keyboard, cascade, RTC and FPU lines edge-triggered whatever ELCR says", () => {
    const { ports } = setup();
    ports.out(ELCR, 0xff);
    ports.out(ELCR + 1, 0xff);
    expect([ports.in(ELCR), ports.in(ELCR + 1)]).toEqual([0xf8, 0xde]);
  });

  it("rotates priority on EOI, by command, and on automatic EOI", () => {
    const chip = initialised();
    chip.pulse(3);
    chip.pic.acknowledge();
    chip.ports.out(MASTER, 0xa0); // rotate on non-specific EOI: 4 is now highest
    chip.pulse(3);
    chip.pulse(4);
    expect(chip.pic.acknowledge()).toBe(0x34);
    chip.ports.out(MASTER, 0x20);
    chip.ports.out(MASTER, 0xc2); // 2 lowest, 3 highest
    expect(chip.pic.acknowledge()).toBe(0x33);

    const auto = initialised(0x03);
    auto.ports.out(MASTER, 0x80);
    auto.pulse(0);
    auto.pulse(1);
    expect(auto.pic.acknowledge()).toBe(0x30);
    expect(isr(auto, MASTER)).toBe(0);
    auto.pulse(0);
    expect([auto.pic.acknowledge(), auto.pic.acknowledge()]).toEqual([0x31, 0x30]);
  });

  it("passes lower levels in special mask mode once the level in service is masked", () => {
    const chip = initialised();
    chip.pulse(3);
    chip.pic.acknowledge();
    chip.pulse(6);
    expect(chip.intr.level).toBe(false);
    chip.ports.out(MASTER + 1, 0x08);
    expect(chip.intr.level).toBe(false);
    chip.ports.out(MASTER, 0x68);
    expect(chip.pic.acknowledge()).toBe(0x36);
  });

  it("acknowledges by poll", () => {
    const chip = initialised();
    chip.pulse(6);
    chip.ports.out(MASTER, 0x0c);
    expect(chip.ports.in(MASTER)).toBe(0x86);
    expect(isr(chip, MASTER)).toBe(0x40);
    chip.ports.out(MASTER, 0x0c);
    expect(chip.ports.in(MASTER)).toBe(0);
  });

  it("clears mask, service and edges on ICW1", () => {
    const chip = initialised();
    chip.pic.setIrq(5, true);
    chip.pulse(1);
    chip.pic.acknowledge();
    chip.ports.out(MASTER + 1, 0xff);
    chip.ports.out(MASTER, 0x11);
    expect([irr(chip, MASTER), isr(chip, MASTER)]).toEqual([0, 0]);
    for (const icw of [0x40, 0x04, 0x01]) chip.ports.out(MASTER + 1, icw);
    expect(chip.ports.in(MASTER + 1)).toBe(0);
    chip.pic.setIrq(5, true); // still high: no new edge
    expect(chip.intr.level).toBe(false);
  });

  const control = fc.constantFrom(
    0x11,
    0x10,
    0x19,
    0x20,
    0x60,
    0x64,
    0xa0,
    0xc3,
    0x80,
    0x00,
    0x0a,
    0x0b,
    0x0c,
    0x68,
    0x48,
  );
  const data = fc.oneof(fc.constantFrom(0, 0xff, 0x01, 0x03, 0x11, 0xfb, 0x30), fc.nat(255));
  const port = fc.constantFrom(MASTER, SLAVE);
  const op = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("irq" as const), irq: fc.nat(15), level: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("out" as const), port, value: control }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("out" as const), port: port.map((p) => p + 1), value: data }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("out" as const),
        port: fc.constantFrom(ELCR, ELCR + 1),
        value: data,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("in" as const),
        port: fc.constantFrom(MASTER, MASTER + 1, SLAVE, SLAVE + 1),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("ack" as const) }) },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = ({ pic, ports }: ReturnType<typeof setup>, o: Op): number => {
    switch (o.kind) {
      case "irq":
        pic.setIrq(o.irq, o.level);
        return 0;
      case "out":
        ports.out(o.port, o.value);
        return 0;
      case "in":
        return ports.in(o.port);
      case "ack":
        return pic.acknowledge();
    }
  };

  it("restores to a pair that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = initialised();
        for (const o of before) apply(a, o);
        const b = setup();
        b.pic.restore(JSON.parse(JSON.stringify(a.pic.save())) as I8259PairStateV1);
        expect(b.intr.edges).toBe(0);
        for (const o of after) {
          expect(apply(b, o)).toBe(apply(a, o));
          expect(b.pic.intr).toBe(a.pic.intr);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("resets to power-on from any state", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const chip = setup();
        for (const o of ops) apply(chip, o);
        chip.pic.reset();
        expect(chip.pic.save()).toEqual(setup().pic.save());
        expect(chip.intr.level).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  it("never acknowledges a masked input", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const chip = initialised();
        for (const o of ops) apply(chip, o);
        const { master, slave } = chip.pic.save();
        fc.pre(master.expectIcw === 0 && slave.expectIcw === 0 && !master.poll && !slave.poll);
        if (!chip.pic.intr) return;
        chip.pic.acknowledge();
        const after = chip.pic.save();
        expect(after.master.isr & ~master.isr & master.imr).toBe(0);
        expect(after.slave.isr & ~slave.isr & slave.imr).toBe(0);
      }),
      { numRuns: 500 },
    );
  });

  it("refuses a foreign snapshot by field", () => {
    const { pic } = setup();
    const good = pic.save();
    expect(() => {
      pic.restore({ ...good, version: 2 } as never);
    }).toThrow(/i8259: cannot restore: version/);
    expect(() => {
      pic.restore({ ...good, slave: { ...good.slave, imr: 256 } });
    }).toThrow(/slave\.imr/);
    expect(pic.save()).toEqual(good);
  });
});
