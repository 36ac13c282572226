import { bits, definePlugin, type RegisterState, registerMap, token, type Token } from "@northbridge/sdk";
import * as v from "valibot";
import { identification } from "./identification.ts";

const PINS = { PINS: bits(0, 8) };

/** ARM PrimeCell general purpose I/O (PL061) technical reference manual, ARM DDI 0190, §3.2. */
export const registers = registerMap("pl061", {
  DATA: {
    offset: 0x000,
    count: 256,
    fields: PINS,
    volatile: true,
    isSaved: false,
    description: "The pins. Bits 9:2 of the address say which of them an access is about",
  },
  DIR: { offset: 0x400, fields: PINS, description: "1 is an output" },
  IS: { offset: 0x404, fields: PINS, description: "1 senses a level, 0 an edge" },
  IBE: { offset: 0x408, fields: PINS, description: "1 is interrupted by both edges" },
  IEV: { offset: 0x40c, fields: PINS, description: "1 is high or rising, 0 low or falling" },
  IE: { offset: 0x410, fields: PINS },
  RIS: { offset: 0x414, access: "ro", fields: PINS, volatile: true },
  MIS: { offset: 0x418, access: "ro", fields: PINS, volatile: true },
  IC: { offset: 0x41c, access: "wo", fields: PINS },
  AFSEL: {
    offset: 0x420,
    fields: PINS,
    description: "1 leaves the pin to other hardware: kept, without effect",
  },
  ...identification(0x061, 0),
});

/** What is wired to the pins. */
export interface Wires {
  /** The device drives its outputs so. */
  onOutput(levels: number, outputs: number): void;
  /** Hears of levels that are put on the inputs. */
  connect(listener: (levels: number) => void): void;
}
export const Wires: Token<Wires> = token<Wires>("pl061Wires");

interface State {
  readonly regs: RegisterState;
  readonly data: number;
  readonly inputs: number;
  readonly edges: number;
}

const powerOn = () => ({ data: 0, inputs: 0, edges: 0 });

/** Eight pins with interrupts. Inputs that nothing drives are low. */
export const pl061 = definePlugin({
  name: "@example/devices/pl061",
  config: v.strictObject({ base: v.optional(v.number(), 0xfe82_0000), gsi: v.optional(v.number(), 12) }),
  setup(ctx, { base, gsi }) {
    const line = ctx.irq(gsi);
    const wires = ctx.find(Wires);
    /** `data`: the pins' levels; `inputs`: what is put on them; `edges`: latched. */
    let state = powerOn();
    const raw = (): number => {
      const { IS, IEV } = regs.values;
      return (state.edges & ~IS) | (~(state.data ^ IEV) & IS & 0xff);
    };
    const isRaised = (): boolean => (raw() & regs.values.IE) !== 0;
    const drive = (): void => wires?.onOutput(state.data & regs.values.DIR, regs.values.DIR);
    const settle = (): void => {
      const { DIR, IS, IBE, IEV } = regs.values;
      const old = state.data;
      state.data = (old & DIR) | (state.inputs & ~DIR);
      const changed = (old ^ state.data) & ~DIR & ~IS;
      state.edges |= changed & (IBE | ~(state.data ^ IEV)) & 0xff;
      line.set(isRaised());
    };
    const regs = registers.create({
      hooks: {
        DATA: {
          read: (_stored, mask) => state.data & mask,
          write(_stored, _previous, written, mask) {
            const driven = mask & regs.values.DIR;
            state.data = (state.data & ~driven) | (written & driven);
            drive();
          },
        },
        DIR: { write: drive },
        RIS: { read: raw },
        MIS: { read: () => raw() & regs.values.IE },
        IC: { write: (_stored, _previous, written) => void (state.edges &= ~written) },
      },
      sync: settle,
    });
    ctx.mapMmio({ base, length: registers.length }, regs.handler);
    wires?.connect((levels) => {
      state.inputs = levels & 0xff;
      settle();
    });
    return {
      reset() {
        regs.reset();
        state = { ...powerOn(), inputs: state.inputs, data: state.inputs };
        line.set(false);
        drive();
      },
      save: (): State => ({ regs: regs.save(), ...state }),
      restore({ regs: saved, ...rest }: State) {
        regs.restore(saved);
        state = rest;
        line.adopt(isRaised());
        drive();
      },
    };
  },
});
