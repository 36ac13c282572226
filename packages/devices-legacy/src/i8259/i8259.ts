import type { IoHandler, IoWidth } from "@northbridge/sdk";
import * as v from "valibot";
import { flag, type StateSchema, u8 } from "../state-schema.ts";
import { Icw1, Icw4, Ocw2, Ocw3, POLL_INTERRUPT, Reg } from "./spec.ts";

/** Registers of one chip, as saved. */
export interface I8259ChipStateV1 {
  /** Input levels. */
  readonly lines: number;
  readonly irr: number;
  readonly isr: number;
  readonly imr: number;
  /** Edge/level control register: 1 is level. */
  readonly elcr: number;
  /** ICW2 bits 7:3. */
  readonly vectorBase: number;
  /** ICW word expected next on the data port; 0 outside initialisation. */
  readonly expectIcw: number;
  readonly icw1: number;
  readonly icw3: number;
  readonly icw4: number;
  /** Input with the highest priority. */
  readonly highest: number;
  readonly rotateOnAeoi: boolean;
  readonly specialMask: boolean;
  readonly readIsr: boolean;
  readonly poll: boolean;
}

export const I8259ChipState: StateSchema<I8259ChipStateV1> = v.strictObject({
  lines: u8,
  irr: u8,
  isr: u8,
  imr: u8,
  elcr: u8,
  vectorBase: u8,
  expectIcw: v.pipe(u8, v.maxValue(4)),
  icw1: u8,
  icw3: u8,
  icw4: u8,
  highest: v.pipe(u8, v.maxValue(7)),
  rotateOnAeoi: flag,
  specialMask: flag,
  readIsr: flag,
  poll: flag,
});

type Regs = { -readonly [K in keyof I8259ChipStateV1]: I8259ChipStateV1[K] };

const powerOn = (): Regs => ({
  lines: 0,
  irr: 0,
  isr: 0,
  imr: 0,
  elcr: 0,
  vectorBase: 0,
  expectIcw: 0,
  icw1: 0,
  icw3: 0,
  icw4: 0,
  highest: 0,
  rotateOnAeoi: false,
  specialMask: false,
  readIsr: false,
  poll: false,
});

/** In place of an input: there is none. */
const NONE = 8;

/**
 * One 8259A. It knows nothing of its partner: `cascade` names inputs that mirror another chip's INT output (their
 * request is that output, neither latched nor edge-detected). An edge stays requested although its line falls
 * before the acknowledge, as in KVM's and QEMU's chips; the data sheet would answer with a spurious IR7.
 * Not modelled: buffered mode, MCS-80/85 mode.
 */
export class I8259 implements IoHandler {
  readonly #changed: () => void;
  readonly #elcrMask: number;
  readonly #cascade: number;
  #r: Regs = powerOn();

  constructor(options: {
    readonly elcrMask: number;
    readonly cascade: number;
    readonly changed: () => void;
  }) {
    this.#elcrMask = options.elcrMask;
    this.#cascade = options.cascade;
    this.#changed = options.changed;
  }

  /** Level of the INT output. */
  get int(): boolean {
    return this.#request() < NONE;
  }

  get imr(): number {
    return this.#r.imr;
  }

  get elcr(): number {
    return this.#r.elcr;
  }

  setElcr(value: number): void {
    const r = this.#r;
    r.elcr = value & this.#elcrMask;
    const level = this.#level;
    r.irr = (r.irr & ~level) | (r.lines & level);
  }

  setInput(input: number, level: boolean): void {
    const r = this.#r;
    const bit = 1 << input;
    if (level) {
      if ((r.lines & bit) === 0 || (this.#level & bit) !== 0) r.irr |= bit;
      r.lines |= bit;
    } else {
      if ((this.#level & bit) !== 0) r.irr &= ~bit;
      r.lines &= ~bit;
    }
  }

  /**
   * The two INTA pulses: puts the highest request into service and returns its input, 7 where there is none any
   * more (spurious; then nothing enters service).
   */
  acknowledge(): number {
    const r = this.#r;
    const input = this.#request();
    if (input === NONE) return 7;
    const bit = 1 << input;
    if ((this.#level & bit) === 0) r.irr &= ~bit;
    if ((r.icw4 & Icw4.AEOI) === 0) r.isr |= bit;
    else if (r.rotateOnAeoi) r.highest = (input + 1) & 7;
    return input;
  }

  vector(input: number): number {
    return this.#r.vectorBase | input;
  }

  read(offset: number, _width: IoWidth): number {
    const r = this.#r;
    if (r.poll) {
      r.poll = false;
      if (!this.int) return 0;
      const input = this.acknowledge();
      this.#changed();
      return POLL_INTERRUPT | input;
    }
    if (offset === Reg.DATA) return r.imr;
    return r.readIsr ? r.isr : r.irr;
  }

  write(offset: number, _width: IoWidth, value: number): void {
    if (offset === Reg.DATA) this.#writeData(value & 0xff);
    else if ((value & Icw1.INIT) !== 0) this.#initialise(value & 0xff);
    else if ((value & Ocw3.SELECT) !== 0) this.#writeOcw3(value);
    else this.#writeOcw2(value);
    this.#changed();
  }

  reset(): void {
    this.#r = powerOn();
  }

  save(): I8259ChipStateV1 {
    return { ...this.#r };
  }

  /** Loads a state that `I8259ChipState` has parsed. */
  restore(state: I8259ChipStateV1): void {
    this.#r = { ...state };
  }

  /** ICW1 clears the edge sense: a line already high must fall and rise again (data sheet, "Initialization"). */
  #initialise(icw1: number): void {
    const r = this.#r;
    this.#r = {
      ...powerOn(),
      lines: r.lines,
      elcr: r.elcr,
      vectorBase: r.vectorBase,
      icw3: r.icw3,
      icw1,
      expectIcw: 2,
    };
    this.#r.irr = r.lines & this.#level;
  }

  #writeData(value: number): void {
    const r = this.#r;
    switch (r.expectIcw) {
      case 2:
        r.vectorBase = value & 0xf8;
        r.expectIcw = (r.icw1 & Icw1.SNGL) === 0 ? 3 : this.#afterIcw3();
        break;
      case 3:
        r.icw3 = value;
        r.expectIcw = this.#afterIcw3();
        break;
      case 4:
        r.icw4 = value;
        r.expectIcw = 0;
        break;
      default:
        r.imr = value; // OCW1
        break;
    }
  }

  #afterIcw3(): number {
    return (this.#r.icw1 & Icw1.IC4) === 0 ? 0 : 4;
  }

  #writeOcw2(value: number): void {
    const r = this.#r;
    const input = value & 7;
    switch (value >> 5) {
      case Ocw2.ROTATE_AEOI_CLEAR:
        r.rotateOnAeoi = false;
        break;
      case Ocw2.ROTATE_AEOI_SET:
        r.rotateOnAeoi = true;
        break;
      case Ocw2.EOI:
        this.#endOfInterrupt(this.#inService(), false);
        break;
      case Ocw2.ROTATE_EOI:
        this.#endOfInterrupt(this.#inService(), true);
        break;
      case Ocw2.SPECIFIC_EOI:
        this.#endOfInterrupt(input, false);
        break;
      case Ocw2.ROTATE_SPECIFIC_EOI:
        this.#endOfInterrupt(input, true);
        break;
      case Ocw2.SET_PRIORITY:
        r.highest = (input + 1) & 7;
        break;
      default:
        break;
    }
  }

  #writeOcw3(value: number): void {
    const r = this.#r;
    if ((value & Ocw3.ESMM) !== 0) r.specialMask = (value & Ocw3.SMM) !== 0;
    if ((value & Ocw3.POLL) !== 0) r.poll = true;
    else if ((value & Ocw3.RR) !== 0) r.readIsr = (value & Ocw3.RIS) !== 0;
  }

  #endOfInterrupt(input: number, rotate: boolean): void {
    if (input === NONE) return;
    this.#r.isr &= ~(1 << input);
    if (rotate) this.#r.highest = (input + 1) & 7;
  }

  /** Input whose request would interrupt now, or NONE. */
  #request(): number {
    const r = this.#r;
    const pending = r.irr & ~r.imr;
    if (pending === 0) return NONE;
    const blocking = r.specialMask ? r.isr & ~r.imr : r.isr; // a masked level in service holds nothing back
    const nested = (r.icw4 & Icw4.SFNM) !== 0 ? this.#cascade : 0; // a slave in service may ask again
    for (let rank = 0; rank < 8; rank++) {
      const input = (r.highest + rank) & 7;
      const bit = 1 << input;
      if ((blocking & ~nested & bit) !== 0) return NONE;
      if ((pending & bit) !== 0) return input;
      if ((blocking & bit) !== 0) return NONE;
    }
    return NONE;
  }

  /** Highest level in service, or NONE: what a non-specific EOI ends. */
  #inService(): number {
    const r = this.#r;
    const served = r.specialMask ? r.isr & ~r.imr : r.isr;
    for (let rank = 0; rank < 8; rank++) {
      const input = (r.highest + rank) & 7;
      if ((served & (1 << input)) !== 0) return input;
    }
    return NONE;
  }

  /** Inputs whose request follows the level. */
  get #level(): number {
    return (this.#r.icw1 & Icw1.LTIM) !== 0 ? 0xff : this.#r.elcr | this.#cascade;
  }
}
