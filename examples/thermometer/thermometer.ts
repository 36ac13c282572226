import { bit, definePlugin, type RegisterState, registerMap } from "@northbridge/sdk";
import * as v from "valibot";

/** A thermometer that measures every second and raises an alarm. Temperatures are millidegrees Celsius from 0. */
export const registers = registerMap("thermometer", {
  CTRL: {
    offset: 0x0,
    fields: { ENABLE: bit(0), IRQ: bit(1) },
    description: "Starts measuring, lets the alarm interrupt",
  },
  STATUS: { offset: 0x4, access: "w1c", fields: { ALARM: bit(0) }, description: "The limit was reached" },
  TEMP: { offset: 0x8, access: "ro", reset: 20_000, description: "Last measurement" },
  LIMIT: { offset: 0xc, reset: 30_000, description: "Lowest temperature of an alarm" },
});
const { CTRL, STATUS } = registers.masks;
const [PERIOD_NS, STEP] = [1e9, 500];

export const thermometer = definePlugin({
  name: "@example/devices/thermometer",
  config: v.strictObject({
    base: v.optional(v.number(), 0xfe80_0000),
    gsi: v.optional(v.number(), 10),
  }),
  setup(ctx, { base, gsi }) {
    const line = ctx.irq(gsi);
    const isAlarm = () => (regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0;
    const timer = ctx.clock.createTimer(() => {
      regs.values.TEMP += STEP;
      if (regs.values.TEMP >= regs.values.LIMIT) regs.values.STATUS |= STATUS.ALARM;
      timer.arm(ctx.clock.nowNs() + PERIOD_NS);
      line.set(isAlarm());
    });
    const enable = (stored: number, previous: number) => {
      if ((stored & CTRL.ENABLE) === 0) timer.disarm();
      else if ((previous & CTRL.ENABLE) === 0) timer.arm(ctx.clock.nowNs() + PERIOD_NS);
    };
    const regs = registers.create({ hooks: { CTRL: { write: enable } }, sync: () => line.set(isAlarm()) });
    ctx.mapMmio({ base, length: registers.length }, regs.handler);
    return {
      reset: () => {
        regs.reset();
        timer.disarm();
        line.set(false);
      },
      save: () => ({ regs: regs.save(), nextNs: timer.deadlineNs ?? null }),
      restore: (state: { regs: RegisterState; nextNs: number | null }) => {
        regs.restore(state.regs);
        if (state.nextNs !== null) timer.arm(state.nextNs);
        line.adopt(isAlarm());
      },
    };
  },
});
