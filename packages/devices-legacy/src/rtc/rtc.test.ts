import { FakeBus, FakeClock, FakeLine, FakePorts } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nextAlarm } from "./alarm.ts";
import { dayOfWeek, fillCalendar, secondsOf } from "./calendar.ts";
import { Rtc, type RtcStateV2 } from "./rtc.ts";

const S = 1e9;
const EPOCH = Date.UTC(2024, 1, 28, 23, 59, 58); // two seconds before a leap day, a Wednesday

function setup(options: { epochMs?: number; nowNs?: number } = {}) {
  const clock = new FakeClock({ epochMs: options.epochMs ?? EPOCH, nowNs: options.nowNs ?? 0 });
  const irq = new FakeLine();
  const rtc = new Rtc({ clock, irq });
  const bus = new FakeBus();
  bus.map({ name: "rtc", base: 0x70, length: 2, widest: 1 }, rtc);
  const ports = new FakePorts(bus);
  const rd = (index: number) => {
    ports.out(0x70, index);
    return ports.in(0x71);
  };
  const wr = (index: number, value: number) => {
    ports.out(0x70, index);
    ports.out(0x71, value);
  };
  const time = () => [0x32, 9, 8, 7, 6, 4, 2, 0].map(rd);
  return { clock, irq, rtc, ports, rd, wr, time };
}

describe("Rtc", () => {
  it("shows the host's UTC time in BCD and 24 hours after power-on", () => {
    const { time, rd } = setup();
    expect(time()).toEqual([0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x58]);
    expect([rd(0x0a), rd(0x0b), rd(0x0c), rd(0x0d)]).toEqual([0x26, 0x02, 0, 0x80]);
  });

  it("counts into a leap day", () => {
    const { clock, time } = setup();
    clock.advance(2 * S);
    expect(time()).toEqual([0x20, 0x24, 0x02, 0x29, 5, 0, 0, 0]);
  });

  it("starts at the fraction of a second that the host's clock has", () => {
    const { clock, rd } = setup({ epochMs: EPOCH + 250 });
    clock.advance(749_999_999);
    expect(rd(0)).toBe(0x58);
    clock.advance(1);
    expect(rd(0)).toBe(0x59);
  });

  it("speaks binary and 12 hours where register B says so", () => {
    const { clock, wr, time, rd } = setup();
    wr(0x0b, 0x04);
    expect(time()).toEqual([20, 24, 2, 28, 4, 0x8b, 59, 58]);
    clock.advance(2 * S);
    expect(rd(4)).toBe(12); // midnight is 12 AM
    wr(0x0b, 0x00);
    expect(rd(4)).toBe(0x12);
    clock.advance(13 * 3600 * S);
    expect(rd(4)).toBe(0x81);
  });

  it("warns 244 µs before an update", () => {
    const { clock, rd } = setup();
    clock.advance(S - 244_001);
    expect(rd(0x0a) & 0x80).toBe(0);
    clock.advance(1);
    expect(rd(0x0a) & 0x80).toBe(0x80);
    clock.advance(244_000);
    expect(rd(0x0a) & 0x80).toBe(0);
  });

  it("can be set as Linux does: SET, divider reset, fields, divider, SET off", () => {
    const { clock, rd, wr, time } = setup();
    wr(0x0b, 0x82);
    wr(0x0a, 0x66);
    [0x30, 0x15, 0x10, 3, 0x31, 0x12, 0x99].forEach((value, i) => {
      wr([0, 2, 4, 6, 7, 8, 9][i] ?? 0, value);
    });
    wr(0x32, 0x19);
    clock.advance(10 * S);
    expect(rd(0)).toBe(0x30); // stands still
    wr(0x0b, 0x02);
    wr(0x0a, 0x26);
    clock.advance(0.4 * S);
    expect(time()).toEqual([0x19, 0x99, 0x12, 0x31, 6, 0x10, 0x15, 0x30]);
    clock.advance(0.2 * S); // the first update comes half a second after the release
    expect(rd(0)).toBe(0x31);
    clock.advance(S * 3600 * 24);
    expect(time()).toEqual([0x20, 0x00, 0x01, 0x01, 7, 0x10, 0x15, 0x31]);
  });

  it("sets a single running register without disturbing the others", () => {
    const { wr, time } = setup();
    wr(2, 0x30);
    expect(time()).toEqual([0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x30, 0x58]);
  });

  it("interrupts on update end until register C is read", () => {
    const { clock, irq, rd, wr } = setup();
    wr(0x0b, 0x12);
    clock.advance(S - 1);
    expect(irq.level).toBe(false);
    clock.advance(1);
    expect(irq.level).toBe(true);
    clock.advance(5 * S);
    expect(irq.edges).toBe(1);
    expect(rd(0x0c) & 0x90).toBe(0x90);
    expect([irq.level, rd(0x0c)]).toEqual([false, 0]);
  });

  it("interrupts at the periodic rate", () => {
    for (const [rate, hz] of [
      [6, 1024],
      [15, 2],
      [3, 8192],
      [1, 256],
      [2, 128],
    ] as const) {
      const { clock, irq, rd, wr } = setup();
      wr(0x0a, 0x20 | rate);
      wr(0x0b, 0x42);
      let count = 0;
      while (clock.nextDeadlineNs() <= S) {
        clock.advanceTo(clock.nextDeadlineNs());
        if (irq.level) count++;
        rd(0x0c);
      }
      expect(count).toBe(hz);
    }
  });

  it("sets the periodic flag without the interrupt, for who polls", () => {
    const { clock, irq, rd } = setup();
    clock.advance(1_000_000);
    expect([rd(0x0c), irq.level]).toEqual([0x40, false]);
  });

  it("alarms at the time that matches, with don't-cares", () => {
    const { clock, irq, rd, wr } = setup();
    wr(5, 0x00);
    wr(3, 0x01);
    wr(1, 0x05);
    wr(0x0b, 0x22);
    clock.advance(2 * S + 64 * S);
    expect(irq.level).toBe(false);
    clock.advance(S);
    expect(irq.level).toBe(true);
    expect(rd(0x0c) & 0xb0).toBe(0xb0);
    wr(5, 0xff);
    wr(3, 0xc0);
    clock.advance(59 * S);
    expect(irq.level).toBe(false);
    clock.advance(S);
    expect(irq.level).toBe(true);
  });

  it.each([
    [1, 0x60],
    [3, 0x60],
    [5, 0x25],
  ])("never alarms for a time that is none: register %i is %i", (register, value) => {
    const { clock, wr, irq } = setup();
    for (const each of [1, 3, 5]) wr(each, 0xff);
    wr(register, value);
    wr(0x0b, 0x22);
    expect(clock.nextDeadlineNs()).toBe(Infinity);
    clock.advance(3 * 86_400 * S);
    expect(irq.edges).toBe(0);
  });

  it("does not look for a time that is none at every access", () => {
    // A day has 86 400 seconds: to look through two of them is 10^9 steps here, far more than a minute.
    const never = { second: 99, minute: undefined, hour: undefined };
    let found = 0;
    for (let access = 0; access < 100_000; access++) if (nextAlarm(never, access) !== Infinity) found++;
    expect(found).toBe(0);
  });

  it("keeps RAM, and not the read-only registers", () => {
    const { ports, rd, wr } = setup();
    for (const index of [0x0e, 0x40, 0x7f]) wr(index, index ^ 0x55);
    expect([0x0e, 0x40, 0x7f].map(rd)).toEqual([0x5b, 0x15, 0x2a]);
    wr(0x0d, 0);
    expect(rd(0x0d)).toBe(0x80);
    ports.out(0x70, 0x80 | 0x0d); // with the NMI mask
    expect(ports.in(0x71)).toBe(0x80);
  });

  it("keeps time and RAM over a reset, and drops interrupts", () => {
    const { clock, irq, rtc, rd, wr } = setup();
    wr(0x40, 0xaa);
    wr(0x0b, 0x7a);
    clock.advance(S);
    rtc.reset();
    expect([irq.level, rd(0x0b), rd(0x0c), rd(0x40), rd(0)]).toEqual([false, 0x02, 0, 0xaa, 0x59]);
    expect(clock.nextDeadlineNs()).toBe(Infinity);
  });

  /** The machine stands still for so long: guest time does too, and the wall clock goes on. */
  const standStill = ({ clock, rtc }: ReturnType<typeof setup>, ms: number): void => {
    (clock as { epochMs: number }).epochMs += ms;
    rtc.resume();
  };

  it("goes on with the wall clock while the machine stands still", () => {
    const chip = setup();
    chip.clock.advance(0.3 * S);
    standStill(chip, 3 * 86_400_000 + 1_200);
    expect(chip.time()).toEqual([0x20, 0x24, 0x03, 0x02, 7, 0x23, 0x59, 0x59]);
    chip.clock.advance(0.5 * S - 1);
    expect(chip.rd(0)).toBe(0x59);
    chip.clock.advance(1); // the fraction of a second has moved too
    expect(chip.rd(0)).toBe(0);
    standStill(chip, -10_000); // somebody has set the host's clock
    expect(chip.rd(0)).toBe(0x50);
  });

  it("keeps what a guest has set it to beside the wall clock, and stands still where the guest stopped it", () => {
    const chip = setup();
    chip.wr(4, 0x10); // a guest on local time
    standStill(chip, 1000);
    expect([chip.rd(4), chip.rd(2), chip.rd(0)]).toEqual([0x10, 0x59, 0x59]);
    chip.wr(0x0b, 0x82); // SET
    standStill(chip, 3_600_000);
    expect([chip.rd(4), chip.rd(0)]).toEqual([0x10, 0x59]);
  });

  it("alarms for a time that came while the machine stood still, once", () => {
    const chip = setup();
    chip.wr(5, 0x07);
    chip.wr(3, 0x30);
    chip.wr(1, 0x00);
    chip.wr(0x0b, 0x22);
    standStill(chip, 86_400_000);
    expect([chip.irq.level, chip.irq.edges]).toEqual([true, 1]);
    expect(chip.rd(0x0c) & 0xa0).toBe(0xa0);
    expect(chip.clock.nextDeadlineNs()).toBe((7.5 * 3600 + 2) * S); // and for the next morning
  });

  it("is restored to the wall clock of that moment", () => {
    const a = setup();
    a.clock.advance(5 * S);
    const b = setup({ nowNs: a.clock.nowNs(), epochMs: EPOCH + 7 * 86_400_000 });
    b.rtc.restore(JSON.parse(JSON.stringify(a.rtc.save())) as RtcStateV2);
    b.rtc.resume();
    expect(b.time()).toEqual([0x20, 0x24, 0x03, 0x07, 5, 0, 0, 3]);
  });

  const ticks = [0, 1, 2, 3, 4, 5, 7, 8, 9, 0x0a, 0x0b, 0x0c, 0x32];
  const op = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("in" as const), index: fc.constantFrom(...ticks) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("out" as const),
        index: fc.constantFrom(...ticks),
        value: fc.oneof(
          fc.constantFrom(0, 0x26, 0x2f, 0x66, 0x02, 0x12, 0x42, 0x32, 0x82, 0x06, 0xc0, 0x59),
          fc.nat(255),
        ),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("wait" as const),
        ns: fc.oneof(fc.nat(300_000), fc.nat(2 * S)),
      }),
    },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = ({ clock, irq, rd, wr }: ReturnType<typeof setup>, o: Op): unknown => {
    irq.edges = 0;
    let value = 0;
    if (o.kind === "in") value = rd(o.index);
    else if (o.kind === "out") wr(o.index, o.value);
    else clock.advance(o.ns);
    return [value, irq.level, irq.edges, clock.nextDeadlineNs()];
  };

  it("restores to a clock that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = setup();
        for (const o of before) apply(a, o);
        const b = setup({ nowNs: a.clock.nowNs() });
        b.rtc.restore(JSON.parse(JSON.stringify(a.rtc.save())) as RtcStateV2);
        expect([b.irq.level, b.irq.edges]).toEqual([a.irq.level, 0]);
        for (const o of after) expect(apply(b, o)).toEqual(apply(a, o));
      }),
      { numRuns: 400 },
    );
  });

  it("refuses a damaged snapshot by field", () => {
    const { rtc } = setup();
    expect(() => {
      rtc.restore({ ...rtc.save(), ram: [1] });
    }).toThrow(/rtc: cannot restore: ram/);
  });
});

describe("calendar", () => {
  it("agrees with the language's own calendar from 1583 to 9999", () => {
    const from = Date.UTC(1583, 0, 1) / 1000;
    const to = Date.UTC(9999, 11, 31) / 1000;
    fc.assert(
      fc.property(fc.integer({ min: from, max: to }), (seconds) => {
        const into = { second: 0, minute: 0, hour: 0, day: 0, month: 0, year: 0 };
        fillCalendar(seconds, into);
        const date = new Date(seconds * 1000);
        expect(into).toEqual({
          second: date.getUTCSeconds(),
          minute: date.getUTCMinutes(),
          hour: date.getUTCHours(),
          day: date.getUTCDate(),
          month: date.getUTCMonth() + 1,
          year: date.getUTCFullYear(),
        });
        expect([dayOfWeek(seconds), secondsOf(into)]).toEqual([date.getUTCDay() + 1, seconds]);
      }),
      { numRuns: 2000 },
    );
  });
});
