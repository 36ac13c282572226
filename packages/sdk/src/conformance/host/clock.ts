import type { Clock } from "@northbridge/core/contracts";
import { expectEqual, type SuiteHooks } from "./conformance-hooks.ts";

/** A clock, and how to let its time pass. */
export interface ClockUnderTest {
  readonly clock: Clock;
  /** Lets guest time reach `nowNs` and the machine look at its timers. */
  readonly advanceTo: (nowNs: number) => void;
}

/** Declares the tests that every `Clock` passes. */
export function clockConformance(hooks: SuiteHooks, create: () => ClockUnderTest): void {
  hooks.describe("clock conformance", () => {
    hooks.it("runs timers in order of deadline, then of creation, at or after their time", () => {
      const { clock, advanceTo } = create();
      const fired: string[] = [];
      const start = clock.nowNs();
      const late = clock.createTimer(() => void fired.push("late"));
      const twin = (name: string): void => {
        clock
          .createTimer(() => {
            fired.push(name);
            if (clock.nowNs() < start + 1000) fired.push("too early");
          })
          .arm(start + 1000);
      };
      twin("a");
      twin("b");
      late.arm(start + 2000);
      advanceTo(start + 999);
      expectEqual("before the first deadline", fired, []);
      advanceTo(start + 5000);
      expectEqual("after all of them", fired, ["a", "b", "late"]);
      expectEqual("a timer that has fired", late.deadlineNs, undefined);
      return Promise.resolve();
    });

    hooks.it("replaces a deadline by another, and forgets a disarmed one", () => {
      const { clock, advanceTo } = create();
      const fired: string[] = [];
      const start = clock.nowNs();
      const moved = clock.createTimer(() => void fired.push("moved"));
      const disarmed = clock.createTimer(() => void fired.push("disarmed"));
      moved.arm(start + 1000);
      moved.arm(start + 3000);
      disarmed.arm(start + 1000);
      expectEqual("deadline", moved.deadlineNs, start + 3000);
      disarmed.disarm();
      expectEqual("deadline of a disarmed timer", disarmed.deadlineNs, undefined);
      advanceTo(start + 2000);
      expectEqual("at the old deadline", fired, []);
      advanceTo(start + 3000);
      expectEqual("at the new deadline", fired, ["moved"]);
      return Promise.resolve();
    });

    hooks.it("fires a deadline in the past at the next look, never inside arming", () => {
      const { clock, advanceTo } = create();
      let fired = 0;
      advanceTo(clock.nowNs() + 1000);
      clock.createTimer(() => fired++).arm(0);
      expectEqual("right after arming", fired, 0);
      advanceTo(clock.nowNs() + 1);
      expectEqual("at the next look", fired, 1);
      return Promise.resolve();
    });

    hooks.it("lets a timer arm itself again", () => {
      const { clock, advanceTo } = create();
      let fired = 0;
      const start = clock.nowNs();
      const timer = clock.createTimer(() => {
        fired++;
        if (fired < 3) timer.arm(start + 1000 * (fired + 1));
      });
      timer.arm(start + 1000);
      for (let step = 1; step <= 5; step++) advanceTo(start + 1000 * step);
      expectEqual("times fired", fired, 3);
      return Promise.resolve();
    });

    hooks.it("never goes back", () => {
      const { clock, advanceTo } = create();
      let last = clock.nowNs();
      for (let step = 0; step < 100; step++) {
        advanceTo(last + step);
        const now = clock.nowNs();
        if (now < last) throw new Error(`${now} after ${last}`);
        last = now;
      }
      return Promise.resolve();
    });
  });
}
