import { FakeBus, FakeClock, FakeLine, FakePorts } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { I8254, type I8254StateV1 } from "./i8254.ts";

const HZ = 1_193_182;
/** Nanosecond at which input clock pulse `n` is complete. */
const at = (n: number) => Math.ceil((n * 1e9) / HZ);

function setup(nowNs = 0) {
  const clock = new FakeClock({ nowNs });
  const irq = new FakeLine();
  const pit = new I8254({ clock, irq });
  const bus = new FakeBus();
  bus.map({ name: "pit", base: 0x40, length: 4, widest: 1 }, pit);
  bus.map({ name: "portB", base: 0x61, length: 1, widest: 1 }, pit.portB);
  const ports = new FakePorts(bus);
  const program = (channel: number, mode: number, count: number) => {
    ports.out(0x43, (channel << 6) | 0x30 | (mode << 1));
    ports.out(0x40 + channel, count & 0xff);
    ports.out(0x40 + channel, count >> 8);
  };
  const count = (channel: number) => {
    ports.out(0x43, channel << 6);
    return ports.in(0x40 + channel) | (ports.in(0x40 + channel) << 8);
  };
  const status = (channel: number) => {
    ports.out(0x43, 0xe0 | (2 << channel));
    return ports.in(0x40 + channel);
  };
  return { clock, irq, pit, ports, program, count, status };
}

describe("I8254", () => {
  it("counts down from the pulse after the count was written", () => {
    const { clock, program, count } = setup();
    program(0, 0, 1000);
    clock.advanceTo(at(1));
    expect(count(0)).toBe(1000);
    clock.advanceTo(at(11));
    expect(count(0)).toBe(990);
    clock.advanceTo(at(1001));
    expect(count(0)).toBe(0);
    clock.advanceTo(at(1002));
    expect(count(0)).toBe(0xffff);
  });

  it("raises OUT N+1 pulses after the count in mode 0, and once", () => {
    const { clock, irq, program } = setup();
    program(0, 0, 1000);
    clock.advanceTo(at(1001) - 1);
    expect(irq.level).toBe(false);
    clock.advanceTo(at(1001));
    expect(irq.level).toBe(true);
    clock.advanceTo(at(1_000_000));
    expect(irq.edges).toBe(1);
  });

  it.each([2, 3])("interrupts without drift in mode %i", (mode) => {
    const { clock, irq, program } = setup();
    program(0, mode, 4772); // HZ = 250, as Linux sets it
    irq.edges = 0;
    const hour = 3600;
    clock.advanceTo(hour * 1e9);
    expect(irq.edges).toBe(Math.floor((hour * HZ - 1) / 4772));
  });

  it("strobes once in mode 4 and then stays silent", () => {
    const { clock, irq, program } = setup();
    program(0, 4, 500);
    irq.edges = 0;
    clock.advanceTo(at(501));
    expect(irq.edges).toBe(0);
    clock.advanceTo(at(502));
    expect(irq.edges).toBe(1);
    clock.advanceTo(at(200_000));
    expect(irq.edges).toBe(1);
  });

  it("shows a square wave's halves on OUT 2, the odd pulse in the high half", () => {
    const { clock, ports, program } = setup();
    ports.out(0x61, 1);
    program(2, 3, 5);
    const levels: number[] = [];
    for (let n = 1; n <= 10; n++) {
      clock.advanceTo(at(n));
      levels.push((ports.in(0x61) >> 5) & 1);
    }
    expect(levels).toEqual([1, 1, 1, 0, 0, 1, 1, 1, 0, 0]);
  });

  it("lowers OUT for one pulse of each period in mode 2", () => {
    const { clock, ports, program } = setup();
    ports.out(0x61, 1);
    program(2, 2, 4);
    const levels: number[] = [];
    for (let n = 1; n <= 8; n++) {
      clock.advanceTo(at(n));
      levels.push((ports.in(0x61) >> 5) & 1);
    }
    expect(levels).toEqual([1, 1, 1, 0, 1, 1, 1, 0]);
  });

  it("takes a new count at the end of the period in mode 2", () => {
    const { clock, irq, ports, program } = setup();
    program(0, 2, 1000);
    irq.edges = 0;
    clock.advanceTo(at(500));
    ports.out(0x40, 100);
    ports.out(0x40, 0);
    clock.advanceTo(at(1000));
    expect(irq.edges).toBe(0);
    clock.advanceTo(at(1001));
    expect(irq.edges).toBe(1);
    clock.advanceTo(at(1301));
    expect(irq.edges).toBe(4);
  });

  it("holds counter 2 while its gate is low", () => {
    const { clock, ports, program, count } = setup();
    program(2, 0, 1000);
    clock.advanceTo(at(100));
    expect(count(2)).toBe(1000);
    ports.out(0x61, 1);
    clock.advanceTo(at(151));
    expect(count(2)).toBe(950);
    ports.out(0x61, 0);
    clock.advanceTo(at(500));
    expect(count(2)).toBe(950);
    expect(ports.in(0x61) & 0x20).toBe(0);
    ports.out(0x61, 1);
    clock.advanceTo(at(500 + 950));
    expect(ports.in(0x61) & 0x20).toBe(0x20);
  });

  it("triggers modes 1 and 5 by the gate", () => {
    const { clock, ports, program } = setup();
    program(2, 1, 10);
    clock.advanceTo(at(100));
    expect(ports.in(0x61) & 0x20).toBe(0x20);
    ports.out(0x61, 1);
    clock.advanceTo(at(105));
    expect(ports.in(0x61) & 0x20).toBe(0);
    clock.advanceTo(at(111));
    expect(ports.in(0x61) & 0x20).toBe(0x20);
  });

  it("finishes the pulse under way in mode 1 before a new count counts, from the next edge of the gate", () => {
    const { clock, ports, program, count, status } = setup();
    program(2, 1, 100);
    clock.advanceTo(at(10));
    ports.out(0x61, 1); // the gate rises: counts from 11
    clock.advanceTo(at(50));
    ports.out(0x42, 10);
    ports.out(0x42, 0);
    expect(status(2) & 0xc0).toBe(0x40); // OUT low, the new count not loaded
    clock.advanceTo(at(60));
    expect([ports.in(0x61) & 0x20, count(2)]).toEqual([0, 51]);
    clock.advanceTo(at(110));
    expect(ports.in(0x61) & 0x20).toBe(0);
    clock.advanceTo(at(111));
    expect(ports.in(0x61) & 0x20).toBe(0x20);
    ports.out(0x61, 0);
    clock.advanceTo(at(200));
    ports.out(0x61, 1); // from 201
    clock.advanceTo(at(210));
    expect([ports.in(0x61) & 0x20, status(2) & 0xc0]).toEqual([0, 0]);
    clock.advanceTo(at(211));
    expect(ports.in(0x61) & 0x20).toBe(0x20);
  });

  it("lets Linux calibrate its TSC over 50 ms of counter 2", () => {
    const { clock, ports } = setup();
    const latch = Math.floor(HZ / 20);
    ports.out(0x61, (ports.in(0x61) & ~0x02) | 0x01);
    ports.out(0x43, 0xb0);
    ports.out(0x42, latch & 0xff);
    ports.out(0x42, latch >> 8);
    let loops = 0;
    while ((ports.in(0x61) & 0x20) === 0 && loops++ < 100_000) clock.advance(1000);
    expect(clock.nowNs()).toBeGreaterThanOrEqual(49_999_000);
    expect(clock.nowNs()).toBeLessThanOrEqual(50_003_000);
  });

  it("latches count and status together, and keeps the first latch", () => {
    const { clock, ports, program } = setup();
    program(0, 2, 0x1234);
    clock.advanceTo(at(5));
    ports.out(0x43, 0xc2);
    clock.advanceTo(at(50));
    ports.out(0x43, 0xc2);
    expect(ports.in(0x40)).toBe(0x80 | 0x34);
    expect([ports.in(0x40), ports.in(0x40)]).toEqual([0x30, 0x12]);
  });

  it("reports a null count until the count is loaded", () => {
    const { clock, ports, status } = setup();
    ports.out(0x43, 0x34);
    expect(status(0)).toBe(0xf4);
    ports.out(0x40, 10);
    ports.out(0x40, 0);
    expect(status(0)).toBe(0xf4);
    clock.advanceTo(at(1));
    expect(status(0)).toBe(0xb4);
  });

  it("counts in BCD and by single bytes", () => {
    const { clock, ports } = setup();
    ports.out(0x43, 0x11); // counter 0, LSB only, mode 0, BCD
    ports.out(0x40, 0x42);
    clock.advanceTo(at(1 + 5));
    expect(ports.in(0x40)).toBe(0x37);
    ports.out(0x43, 0x20); // MSB only, binary
    ports.out(0x40, 0x10);
    clock.advance(at(2));
    expect(ports.in(0x40)).toBe(0x0f);
  });

  it("takes a count of 0 as 65536", () => {
    const { clock, irq, program } = setup();
    program(0, 2, 0);
    irq.edges = 0;
    clock.advanceTo(at(65_536));
    expect(irq.edges).toBe(0);
    clock.advanceTo(at(65_537));
    expect(irq.edges).toBe(1);
  });

  it("makes one edge of many that a late host missed", () => {
    const { clock, irq, program } = setup();
    program(0, 2, 100);
    irq.edges = 0;
    clock.jump(at(10_000));
    clock.advance(1);
    expect(irq.edges).toBe(1);
  });

  it("stores bits 3:0 of port B and toggles refresh", () => {
    const { clock, ports } = setup();
    ports.out(0x61, 0xff);
    expect(ports.in(0x61) & 0x0f).toBe(0x0f);
    const first = ports.in(0x61) & 0x10;
    clock.advance(15_100);
    expect(ports.in(0x61) & 0x10).not.toBe(first);
  });
});

describe("I8254 state", () => {
  const control = fc.constantFrom(
    0x34,
    0x30,
    0x36,
    0x38,
    0x14,
    0x31,
    0xb0,
    0xb2,
    0xb6,
    0xba,
    0x00,
    0x80,
    0xc2,
    0xce,
    0xe8,
    0xd2,
  );
  const op = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("out" as const), port: fc.constant(0x43), value: control }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("out" as const),
        port: fc.constantFrom(0x40, 0x42, 0x61),
        value: fc.oneof(fc.constantFrom(0, 1, 2, 3, 4), fc.nat(255)),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("in" as const), port: fc.constantFrom(0x40, 0x42, 0x61) }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("wait" as const),
        ns: fc.oneof(fc.nat(10_000), fc.nat(100_000_000)),
      }),
    },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  type Pit = ReturnType<typeof setup>;
  const apply = ({ clock, ports, irq }: Pit, o: Op): unknown => {
    irq.edges = 0;
    let value = 0;
    if (o.kind === "out") ports.out(o.port, o.value);
    else if (o.kind === "in") value = ports.in(o.port);
    else if (clock.nextDeadlineNs() - clock.nowNs() > 10_000) clock.advance(o.ns % 50_000_000);
    else clock.jump(o.ns);
    return [value, irq.level, irq.edges, clock.nextDeadlineNs()];
  };

  it("restores to a timer that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = setup();
        for (const o of before) apply(a, o);
        const b = setup(a.clock.nowNs());
        b.pit.restore(JSON.parse(JSON.stringify(a.pit.save())) as I8254StateV1);
        expect([b.irq.level, b.irq.edges]).toEqual([a.irq.level, 0]);
        for (const o of after) expect(apply(b, o)).toEqual(apply(a, o));
      }),
      { numRuns: 400 },
    );
  });

  it("resets to power-on from any state", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const a = setup();
        for (const o of ops) apply(a, o);
        a.pit.reset();
        expect(a.pit.save()).toEqual(setup().pit.save());
        expect([a.irq.level, a.clock.nextDeadlineNs()]).toEqual([false, Infinity]);
      }),
      { numRuns: 300 },
    );
  });

  it("counts as a pulse-by-pulse model does in modes 0, 2 and 4", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 2, 4),
        fc.integer({ min: 2, max: 40 }),
        fc.integer({ min: 1, max: 200 }),
        (mode, n, pulses) => {
          const { clock, ports, program, count } = setup();
          ports.out(0x61, 1);
          program(2, mode, n);
          let element = n; // loaded by the first pulse
          for (let pulse = 2; pulse <= pulses; pulse++) {
            element = (element - 1) & 0xffff;
            if (mode === 2 && element === 0) element = n;
          }
          clock.advanceTo(at(pulses));
          expect(count(2)).toBe(element);
        },
      ),
    );
  });

  it("refuses a damaged snapshot by field", () => {
    const { pit } = setup();
    const good = pit.save();
    expect(() => {
      pit.restore({ ...good, portB: 16 });
    }).toThrow(/i8254: cannot restore: portB/);
  });
});
