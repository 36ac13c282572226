import { bit, bits, definePlugin, type RegisterState, registerMap } from "@northbridge/sdk";
import * as v from "valibot";
import { I2cBus } from "./i2c.ts";

/** Maxim DS1307, 64 × 8 serial real-time clock: data sheet, table 2. Time is BCD. */
export const registers = registerMap("ds1307", {
  SECONDS: { offset: 0, width: 1, volatile: true, fields: { SECONDS: bits(0, 7), CH: bit(7) } },
  MINUTES: { offset: 1, width: 1, volatile: true, fields: { MINUTES: bits(0, 7) } },
  HOURS: { offset: 2, width: 1, volatile: true, fields: { HOURS: bits(0, 6), TWELVE: bit(6) } },
  DAY: { offset: 3, width: 1, volatile: true, reset: 1, fields: { DAY: bits(0, 3) } },
  DATE: { offset: 4, width: 1, volatile: true, reset: 1, fields: { DATE: bits(0, 6) } },
  MONTH: { offset: 5, width: 1, volatile: true, reset: 1, fields: { MONTH: bits(0, 5) } },
  YEAR: { offset: 6, width: 1, volatile: true },
  CONTROL: { offset: 7, width: 1, fields: { RS: bits(0, 2), SQWE: bit(4), OUT: bit(7) } },
  RAM: { offset: 8, width: 1, count: 56 },
});
const { SECONDS, HOURS } = registers.masks;
const [SIZE, PM] = [64, 0x20];

interface State {
  readonly regs: RegisterState;
  readonly pointer: number;
  readonly sinceNs: number;
}

const toBcd = (value: number): number => (Math.floor(value / 10) << 4) | (value % 10);
const fromBcd = (bcd: number): number => (bcd >> 4) * 10 + (bcd & 15);

/**
 * A clock and 56 bytes of RAM on a battery: a reset of the machine is none of its business. It begins at the machine's
 * time of day. Not modelled: the square wave; what a date that is none counts on to.
 */
export const ds1307 = definePlugin({
  name: "@example/devices/ds1307",
  config: v.strictObject({ address: v.optional(v.number(), 0x68) }),
  requires: [I2cBus],
  setup(ctx, { address }) {
    /** The registers say what it was then. */
    let sinceNs = ctx.clock.nowNs() - (ctx.clock.epochMs % 1000) * 1e6;
    let pointer = 0;
    let isPointerNext = false;
    const regs = registers.create({
      hooks: { SECONDS: { write: () => void (sinceNs = ctx.clock.nowNs()) } },
    });

    const show = (ms: number): void => {
      const date = new Date(ms);
      const { values } = regs;
      const hour = date.getUTCHours();
      const isTwelve = (values.HOURS & HOURS.TWELVE) !== 0;
      const twelve = toBcd(hour % 12 === 0 ? 12 : hour % 12) | (hour >= 12 ? PM : 0) | HOURS.TWELVE;
      values.SECONDS = toBcd(date.getUTCSeconds());
      values.MINUTES = toBcd(date.getUTCMinutes());
      values.HOURS = isTwelve ? twelve : toBcd(hour);
      values.DATE = toBcd(date.getUTCDate());
      values.MONTH = toBcd(date.getUTCMonth() + 1);
      values.YEAR = toBcd(date.getUTCFullYear() % 100);
    };
    const shown = (): number => {
      const { YEAR, MONTH, DATE, HOURS: hours, MINUTES, SECONDS: seconds } = regs.values;
      const isTwelve = (hours & HOURS.TWELVE) !== 0;
      const hour = isTwelve ? (fromBcd(hours & 0x1f) % 12) + ((hours & PM) !== 0 ? 12 : 0) : fromBcd(hours);
      return Date.UTC(
        2000 + fromBcd(YEAR),
        fromBcd(MONTH) - 1,
        fromBcd(DATE),
        hour,
        fromBcd(MINUTES),
        fromBcd(seconds),
      );
    };
    /** Counts the seconds that have passed. What is read of one transfer is of one instant. */
    const catchUp = (): void => {
      const passed = Math.floor((ctx.clock.nowNs() - sinceNs) / 1e9);
      sinceNs += passed * 1e9;
      if (passed === 0 || (regs.values.SECONDS & SECONDS.CH) !== 0) return;
      const before = shown();
      const after = before + passed * 1000;
      const days = Math.floor(after / 864e5) - Math.floor(before / 864e5);
      show(after);
      regs.values.DAY = ((regs.values.DAY + 6 + days) % 7) + 1;
    };
    const setToday = (): void => {
      show(ctx.clock.epochMs);
      regs.values.DAY = new Date(ctx.clock.epochMs).getUTCDay() + 1;
    };
    setToday();

    const advance = (): void => {
      pointer = (pointer + 1) % SIZE;
      if (pointer === 0) catchUp();
    };
    ctx.get(I2cBus).attach(address, {
      start(isRead) {
        catchUp();
        isPointerNext = !isRead;
      },
      write(byte) {
        if (isPointerNext) pointer = byte % SIZE;
        else {
          regs.write(pointer, 1, byte);
          advance();
        }
        isPointerNext = false;
        return true;
      },
      read() {
        const byte = regs.read(pointer, 1);
        advance();
        return byte;
      },
      stop: () => undefined,
    });
    return {
      save: (): State => ({ regs: regs.save(), pointer, sinceNs }),
      restore(state: State) {
        regs.restore(state.regs);
        ({ pointer, sinceNs } = state);
      },
    };
  },
});
