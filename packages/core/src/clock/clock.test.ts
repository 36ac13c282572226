import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RealtimeClock } from "./realtime-clock.ts";
import { VirtualClock } from "./virtual-clock.ts";

const fakeHost = (): { host: { nowNs(): number; wallMs(): number }; pass(ns: number): void } => {
  let now = 5_000;
  return {
    host: { nowNs: () => now, wallMs: () => 1_000_000 + now / 1e6 - 0.005 },
    pass: (ns) => (now += ns),
  };
};

describe("RealtimeClock", () => {
  it("stands still until started and while paused", () => {
    const { host, pass } = fakeHost();
    const clock = new RealtimeClock(host);
    pass(100);
    expect(clock.nowNs()).toBe(0);
    clock.resume();
    pass(40);
    clock.pause();
    pass(1_000);
    expect(clock.nowNs()).toBe(40);
    clock.resume();
    pass(2);
    expect(clock.nowNs()).toBe(42);
  });

  it("goes on from a restored time with the wall clock of now", () => {
    const { host } = fakeHost();
    const clock = new RealtimeClock(host);
    clock.startAt(3e9);
    expect(clock.nowNs()).toBe(3e9);
    expect(clock.epochMs + clock.nowNs() / 1e6).toBe(1_000_000);
  });

  it("shows the host's wall clock again after it stood still", () => {
    const { host, pass } = fakeHost();
    const clock = new RealtimeClock(host);
    const wall = (): number => clock.epochMs + clock.nowNs() / 1e6;
    pass(30e9);
    clock.resume();
    pass(10e9);
    expect([clock.nowNs(), wall()]).toEqual([10e9, host.wallMs()]);
    clock.pause();
    pass(3 * 86_400e9);
    clock.resume();
    const { epochMs } = clock;
    clock.resume();
    pass(1e9);
    expect([clock.nowNs(), wall(), clock.epochMs]).toEqual([11e9, host.wallMs(), epochMs]);
  });

  it("refuses to be driven", () => {
    expect(() => new RealtimeClock().follow()).toThrow(expect.objectContaining({ code: "NB_BACKEND" }));
  });

  it("runs no timer while paused", () => {
    const { host, pass } = fakeHost();
    const clock = new RealtimeClock(host);
    let fired = 0;
    clock.createTimer(() => fired++).arm(0);
    clock.runDue();
    expect(fired).toBe(0);
    clock.resume();
    pass(1);
    clock.runDue();
    expect(fired).toBe(1);
  });
});

describe("VirtualClock", () => {
  it("is executed time plus what was skipped", () => {
    let executed = 700;
    const clock = new VirtualClock();
    clock.follow(() => executed);
    clock.startAt(1_000, 77);
    expect(clock.epochMs).toBe(77);
    expect(clock.nowNs()).toBe(1_000);
    executed += 5;
    expect(clock.nowNs()).toBe(1_005);
    clock.skipTo(2_000);
    expect(clock.nowNs()).toBe(2_000);
    clock.skipTo(1_500);
    clock.skipTo(Infinity);
    expect(clock.nowNs()).toBe(2_000);
    executed += 1;
    expect(clock.nowNs()).toBe(2_001);
  });

  it("runs due timers by deadline, then creation, and tells of sooner deadlines only", () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    const make = (name: string) => clock.createTimer(() => ran.push(`${name}@${clock.nowNs()}`));
    const [a, b, c] = [make("a"), make("b"), make("c")];
    let sooner = 0;
    clock.onSooner(() => sooner++);
    c?.arm(10);
    a?.arm(20);
    b?.arm(10);
    expect(sooner).toBe(1);
    a?.arm(5);
    expect(sooner).toBe(2);
    expect(clock.nextDeadlineNs()).toBe(5);
    clock.skipTo(10);
    clock.runDue();
    expect(ran).toEqual(["a@10", "b@10", "c@10"]);
    expect(clock.nextDeadlineNs()).toBe(Infinity);
    expect(a?.deadlineNs).toBeUndefined();
  });

  it("takes no deadline that is no number: other timers go on", () => {
    const clock = new VirtualClock();
    let fired = 0;
    const [broken, sound] = [clock.createTimer(() => fired++), clock.createTimer(() => fired++)];
    sound.arm(10);
    expect(() => {
      broken.arm(Number.NaN);
    }).toThrow(new RangeError("a timer cannot be armed for NaN"));
    expect(() => {
      broken.arm(undefined as never); // of a saved deadline that was none
    }).toThrow(new RangeError("a timer cannot be armed for undefined"));
    clock.skipTo(20);
    clock.runDue();
    expect([fired, clock.nextDeadlineNs()]).toEqual([1, Infinity]);
  });

  it("survives a timer that rearms itself in the past", () => {
    const clock = new VirtualClock();
    let fired = 0;
    const timer = clock.createTimer(() => {
      fired++;
      timer.arm(0);
    });
    timer.arm(0);
    clock.runDue();
    expect(fired).toBeGreaterThan(0);
    expect(timer.deadlineNs).toBe(0);
  });

  it("fires what a sorted array would fire", () => {
    const step = fc.oneof(
      fc.record({ op: fc.constant("arm" as const), timer: fc.nat(4), at: fc.nat(50) }),
      fc.record({ op: fc.constant("disarm" as const), timer: fc.nat(4), at: fc.constant(0) }),
      fc.record({ op: fc.constant("skip" as const), timer: fc.constant(0), at: fc.nat(60) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const clock = new VirtualClock();
        const fired: number[] = [];
        const timers = [0, 1, 2, 3, 4].map((index) => clock.createTimer(() => fired.push(index)));
        const model = new Map<number, number>();
        const want: number[] = [];
        for (const { op, timer, at } of steps) {
          if (op === "arm") {
            timers[timer]?.arm(at);
            model.set(timer, at);
          } else if (op === "disarm") {
            timers[timer]?.disarm();
            model.delete(timer);
          } else {
            clock.skipTo(at);
            clock.runDue();
            const due = [...model].filter(([, deadline]) => deadline <= clock.nowNs());
            for (const [index] of due.sort(([i, a], [j, b]) => a - b || i - j)) {
              want.push(index);
              model.delete(index);
            }
          }
          expect(clock.nextDeadlineNs()).toBe(Math.min(Infinity, ...model.values()));
        }
        expect(fired).toEqual(want);
      }),
    );
  });
});
