import { bit, bits, definePlugin, type IoHandler, type IoWidth, registerMap } from "@northbridge/sdk";
import * as v from "valibot";

/** The data sheet of a device whose decoder is written by hand: what the conformance suite judges it by. */
export const registers = registerMap("counter", {
  CTRL: { offset: 0x00, fields: { ENABLE: bit(0), IRQ: bit(1) } },
  STATUS: { offset: 0x04, access: "w1c", fields: { DONE: bit(0), OVERRUN: bit(1) } },
  COUNT: { offset: 0x08, access: "ro" },
  LIMIT: { offset: 0x0c, reset: 100, fields: { MICROSECONDS: bits(0, 16) } },
  SCRATCH: { offset: 0x10, count: 4 },
  ERRORS: { offset: 0x20, access: "rc" },
  KEY: { offset: 0x24, access: "wo" },
});

interface StateV1 {
  readonly version: 1;
  readonly ctrl: number;
  readonly status: number;
  readonly count: number;
  readonly limit: number;
  readonly scratch: readonly number[];
  readonly errors: number;
  readonly key: number;
  readonly deadlineNs: number | null;
}

const powerOn = () => ({
  ctrl: 0,
  status: 0,
  count: 0,
  limit: 100,
  scratch: [0, 0, 0, 0],
  errors: 0,
  key: 0,
});

/** Counts LIMIT microseconds over and over, and says so every fourth time. A second time unheard is an overrun. */
export const counter = definePlugin({
  name: "@example/devices/counter",
  config: v.strictObject({ base: v.optional(v.number(), 0xfe80_0000), gsi: v.optional(v.number(), 10) }),
  setup(ctx, { base, gsi }) {
    let state = powerOn();
    const line = ctx.irq(gsi);
    const isRaised = () => (state.ctrl & 2) !== 0 && state.status !== 0;
    const sync = () => {
      line.set(isRaised());
    };
    const start = () => {
      timer.arm(ctx.clock.nowNs() + Math.max(1, state.limit) * 1000);
    };
    const timer = ctx.clock.createTimer(() => {
      state.count = (state.count + 1) >>> 0;
      if (state.count % 4 === 0) {
        if (state.status !== 0) {
          state.status |= 2;
          state.errors = (state.errors + 1) >>> 0;
        }
        state.status |= 1;
      }
      start();
      sync();
    });

    const read = (offset: number): number => {
      if (offset >= 0x10 && offset < 0x20) return state.scratch[(offset - 0x10) >> 2] as number;
      switch (offset) {
        case 0x00:
          return state.ctrl;
        case 0x04:
          return state.status;
        case 0x08:
          return state.count;
        case 0x0c:
          return state.limit;
        case 0x20: {
          const { errors } = state;
          state.errors = 0;
          return errors;
        }
        default:
          return 0;
      }
    };
    const write = (offset: number, value: number): void => {
      if (offset >= 0x10 && offset < 0x20) state.scratch[(offset - 0x10) >> 2] = value;
      switch (offset) {
        case 0x00: {
          const wasEnabled = (state.ctrl & 1) !== 0;
          state.ctrl = value & 3;
          if ((value & 1) === 0) timer.disarm();
          else if (!wasEnabled) start();
          break;
        }
        case 0x04:
          state.status &= ~value;
          break;
        case 0x0c:
          state.limit = value & 0xffff;
          break;
        case 0x24:
          state.key = value;
          break;
      }
      sync();
    };

    /** Whole registers only: other accesses read as zero and write nothing. */
    const handler: IoHandler = {
      read: (offset: number, width: IoWidth) => (width === 4 && offset % 4 === 0 ? read(offset) : 0),
      write(offset, width, value) {
        if (width === 4 && offset % 4 === 0) write(offset, value);
      },
    };
    ctx.mapMmio({ base, length: registers.length }, handler);
    return {
      reset() {
        state = powerOn();
        timer.disarm();
        line.set(false);
      },
      save: (): StateV1 => ({
        version: 1,
        ...state,
        scratch: [...state.scratch],
        deadlineNs: timer.deadlineNs ?? null,
      }),
      restore({ version: _version, deadlineNs, ...saved }: StateV1) {
        state = { ...saved, scratch: [...saved.scratch] };
        if (deadlineNs !== null) timer.arm(deadlineNs);
        line.adopt(isRaised());
      },
    };
  },
});
