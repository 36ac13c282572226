import * as v from "valibot";
import { flag, type StateSchema, tick as tickSchema, u16, u8 } from "../state-schema.ts";
import { Mode, Rw, Status } from "./spec.ts";

/** One counter, as saved. Ticks are absolute: input clock pulses since guest time 0. */
export interface PitCounterStateV1 {
  /** Control word bits 5:0. */
  readonly control: number;
  /** Count in force, 1–65536; 0 before the first. */
  readonly count: number;
  /** Tick at which the count went into the counting element. */
  readonly start: number;
  /** Modes 2 and 3: count to go on with after this period, and when; 0 is none. */
  readonly nextCount: number;
  readonly nextStart: number;
  /** Modes 1 and 5: a gate edge has started the count. */
  readonly triggered: boolean;
  readonly gate: boolean;
  /** The gate holds the count at `held` ticks after `start`. */
  readonly paused: boolean;
  readonly held: number;
  /** LSB waiting for its MSB, −1 is none. */
  readonly writeLsb: number;
  readonly readMsb: boolean;
  /** Latched count and status, −1 is none. */
  readonly latchedCount: number;
  readonly latchedStatus: number;
}

const optional = (schema: StateSchema<number>): StateSchema<number> => v.union([v.literal(-1), schema]);

export const PitCounterState: StateSchema<PitCounterStateV1> = v.strictObject({
  control: v.pipe(u8, v.maxValue(0x3f)),
  count: v.pipe(tickSchema, v.minValue(0), v.maxValue(0x1_0000)),
  start: tickSchema,
  nextCount: v.pipe(tickSchema, v.minValue(0), v.maxValue(0x1_0000)),
  nextStart: tickSchema,
  triggered: flag,
  gate: flag,
  paused: flag,
  held: tickSchema,
  writeLsb: optional(u8),
  readMsb: flag,
  latchedCount: optional(u16),
  latchedStatus: optional(u8),
});

type Regs = { -readonly [K in keyof PitCounterStateV1]: PitCounterStateV1[K] };

const powerOn = (gate: boolean): Regs => ({
  control: 0x30, // undefined by the data sheet: mode 0, no count
  count: 0,
  start: 0,
  nextCount: 0,
  nextStart: 0,
  triggered: false,
  gate,
  paused: !gate,
  held: 0,
  writeLsb: -1,
  readMsb: false,
  latchedCount: -1,
  latchedStatus: -1,
});

/**
 * One counter of the 8254 as a function of the tick: nothing runs between accesses.
 * A count is loaded on the clock pulse after it was written. A new count in mode 3 takes over at the end of the
 * period, not of the half period.
 */
export class PitCounter {
  readonly #gateAtReset: boolean;
  #r: Regs;

  constructor(options: { readonly gate: boolean }) {
    this.#gateAtReset = options.gate;
    this.#r = powerOn(options.gate);
  }

  /** @param control control word bits 5:0, not the latch command */
  program(control: number): void {
    this.#r = { ...powerOn(this.#r.gate), control: control & 0x3f };
    if (this.#needsTrigger) this.#r.paused = false; // there the gate starts, it does not hold
  }

  write(value: number, tick: number): void {
    const r = this.#r;
    switch (this.#rw) {
      case Rw.LSB:
        this.#load(value, tick);
        break;
      case Rw.MSB:
        this.#load(value << 8, tick);
        break;
      default:
        if (r.writeLsb < 0) {
          r.writeLsb = value;
          if (this.#mode === Mode.TERMINAL_COUNT) r.count = 0; // the first byte stops the count (mode 0)
        } else {
          const lsb = r.writeLsb;
          r.writeLsb = -1;
          this.#load((value << 8) | lsb, tick);
        }
        break;
    }
  }

  read(tick: number): number {
    const r = this.#r;
    if (r.latchedStatus >= 0) {
      const status = r.latchedStatus;
      r.latchedStatus = -1;
      return status;
    }
    const value = r.latchedCount >= 0 ? r.latchedCount : this.#encoded(tick);
    const rw = this.#rw;
    const msb = rw === Rw.MSB || (rw === Rw.LSB_THEN_MSB && r.readMsb);
    if (rw === Rw.LSB_THEN_MSB) r.readMsb = !r.readMsb;
    if (!r.readMsb) r.latchedCount = -1;
    return msb ? value >> 8 : value & 0xff;
  }

  /** Holds the count for the next read; a count already held stays. */
  latchCount(tick: number): void {
    if (this.#r.latchedCount < 0) this.#r.latchedCount = this.#encoded(tick);
  }

  latchStatus(tick: number): void {
    const r = this.#r;
    if (r.latchedStatus >= 0) return;
    this.#settle(tick);
    const waitsForGate = this.#needsTrigger && !r.triggered;
    const isNull = r.count === 0 || r.nextCount > 0 || waitsForGate || this.#elapsed(tick) < 0;
    r.latchedStatus = (this.out(tick) ? Status.OUT : 0) | (isNull ? Status.NULL_COUNT : 0) | r.control;
  }

  setGate(level: boolean, tick: number): void {
    const r = this.#r;
    if (level === r.gate) return;
    this.#settle(tick);
    r.gate = level;
    if (this.#needsTrigger) {
      if (!level || r.count === 0) return;
      this.#takeNext();
      r.triggered = true;
      r.start = tick + 1;
    } else if (!level) {
      r.held = this.#elapsed(tick);
      r.paused = true;
    } else {
      r.paused = false;
      r.start = this.#isPeriodic ? tick + 1 : tick - r.held; // a rising gate reloads modes 2 and 3
      this.#takeNext();
    }
  }

  /** Level of OUT. */
  out(tick: number): boolean {
    const r = this.#r;
    this.#settle(tick);
    if (r.count === 0) return this.#mode !== Mode.TERMINAL_COUNT;
    const elapsed = this.#elapsed(tick);
    switch (this.#mode) {
      case Mode.TERMINAL_COUNT:
        return elapsed >= r.count;
      case Mode.ONE_SHOT:
        return !r.triggered || elapsed >= r.count;
      case Mode.RATE_GENERATOR:
        return r.paused || elapsed < 0 || r.count === 1 || elapsed % r.count !== r.count - 1;
      case Mode.SQUARE_WAVE:
        return r.paused || elapsed < 0 || elapsed % r.count < Math.ceil(r.count / 2);
      case Mode.SOFTWARE_STROBE:
        return elapsed !== r.count;
      default:
        return !r.triggered || elapsed !== r.count;
    }
  }

  /** First tick after `tick` at which OUT rises by itself; `Infinity` where it never does. */
  nextRise(tick: number): number {
    const r = this.#r;
    this.#settle(tick);
    if (r.count === 0 || (this.#needsTrigger ? !r.triggered : r.paused)) return Infinity;
    if (this.#isPeriodic) {
      if (r.count === 1) return Infinity; // not a legal count there
      if (r.nextCount > 0) return r.nextStart;
      return r.start + (Math.max(0, Math.floor(this.#elapsed(tick) / r.count)) + 1) * r.count;
    }
    const strobe = this.#mode === Mode.SOFTWARE_STROBE || this.#mode === Mode.HARDWARE_STROBE;
    const rise = r.start + r.count + (strobe ? 1 : 0);
    return rise > tick ? rise : Infinity;
  }

  reset(): void {
    this.#r = powerOn(this.#gateAtReset);
  }

  save(): PitCounterStateV1 {
    return { ...this.#r };
  }

  /** Loads a state that `PitCounterState` has parsed. */
  restore(state: PitCounterStateV1): void {
    this.#r = { ...state };
  }

  #load(raw: number, tick: number): void {
    const r = this.#r;
    this.#settle(tick);
    const count = this.#isBcd ? fromBcd(raw) % 10_000 || 10_000 : raw || 0x1_0000;
    if (this.#isPeriodic && r.count > 0 && !r.paused && this.#elapsed(tick) >= 0) {
      r.nextCount = count;
      r.nextStart = r.start + (Math.floor(this.#elapsed(tick) / r.count) + 1) * r.count;
      return;
    }
    if (this.#needsTrigger && r.triggered) {
      r.nextCount = count; // the pulse under way is not affected; the next gate edge counts from it
      return;
    }
    r.count = count;
    if (this.#needsTrigger) return; // counts from the first gate edge
    r.start = tick + 1;
    r.held = -1;
  }

  /** Lets a waiting count take over at the end of a period. */
  #settle(tick: number): void {
    const r = this.#r;
    if (this.#needsTrigger || r.nextCount === 0 || r.paused || tick < r.nextStart) return;
    r.start = r.nextStart;
    this.#takeNext();
  }

  #takeNext(): void {
    const r = this.#r;
    if (r.nextCount === 0) return;
    r.count = r.nextCount;
    r.nextCount = 0;
  }

  #elapsed(tick: number): number {
    return this.#r.paused ? this.#r.held : tick - this.#r.start;
  }

  /** The counting element as a read gives it, 16 bits. */
  #encoded(tick: number): number {
    this.#settle(tick);
    const value = this.#counting(tick);
    return this.#isBcd ? toBcd(value % 10_000) : value & 0xffff;
  }

  #counting(tick: number): number {
    const { count, triggered } = this.#r;
    const elapsed = this.#elapsed(tick);
    if (count === 0 || elapsed < 0 || (this.#needsTrigger && !triggered)) return count;
    if (this.#mode === Mode.RATE_GENERATOR) return count - (elapsed % count);
    if (this.#mode === Mode.SQUARE_WAVE) {
      const high = Math.ceil(count / 2);
      const phase = elapsed % count;
      return (count & ~1) - 2 * (phase < high ? phase : phase - high);
    }
    const modulus = this.#isBcd ? 10_000 : 0x1_0000; // other modes wrap and go on
    return (((count - elapsed) % modulus) + modulus) % modulus;
  }

  get #rw(): number {
    return (this.#r.control >> 4) & 3;
  }

  get #mode(): number {
    const mode = (this.#r.control >> 1) & 7;
    return mode > Mode.HARDWARE_STROBE ? mode - 4 : mode;
  }

  get #isBcd(): boolean {
    return (this.#r.control & 1) !== 0;
  }

  get #isPeriodic(): boolean {
    return this.#mode === Mode.RATE_GENERATOR || this.#mode === Mode.SQUARE_WAVE;
  }

  get #needsTrigger(): boolean {
    return this.#mode === Mode.ONE_SHOT || this.#mode === Mode.HARDWARE_STROBE;
  }
}

function fromBcd(raw: number): number {
  return (raw >> 12) * 1000 + ((raw >> 8) & 15) * 100 + ((raw >> 4) & 15) * 10 + (raw & 15);
}

function toBcd(value: number): number {
  return (
    (Math.floor(value / 1000) << 12) |
    ((Math.floor(value / 100) % 10) << 8) |
    ((Math.floor(value / 10) % 10) << 4) |
    (value % 10)
  );
}
