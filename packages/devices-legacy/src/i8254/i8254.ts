import type {
  Clock,
  InterruptLine,
  IoHandler,
  IoWidth,
  Resettable,
  Snapshottable,
  Timer,
} from "@northbridge/sdk";
import * as v from "valibot";
import { FixedRate } from "../fixed-rate.ts";
import { flag, parseState, type StateSchema, tick as tickSchema, u8 } from "../state-schema.ts";
import { PitCounter, PitCounterState, type PitCounterStateV1 } from "./pit-counter.ts";
import { PIT_HZ, PortB, READ_BACK, ReadBack, REFRESH_NS, Reg, Rw } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface I8254StateV1 {
  readonly version: 1;
  readonly counters: readonly [PitCounterStateV1, PitCounterStateV1, PitCounterStateV1];
  /** Port 0x61 bits 3:0. */
  readonly portB: number;
  /** Level of OUT 0 as the interrupt line last saw it, and when. */
  readonly line: boolean;
  readonly syncedTick: number;
}

const State: StateSchema<I8254StateV1> = v.strictObject({
  version: v.literal(1),
  counters: v.strictTuple([PitCounterState, PitCounterState, PitCounterState]),
  portB: v.pipe(u8, v.maxValue(PortB.WRITABLE)),
  line: flag,
  syncedTick: tickSchema,
});

/** What the timer is wired to. */
export interface I8254Deps {
  readonly clock: Clock;
  /** OUT 0: the edge-triggered timer interrupt. */
  readonly irq: InterruptLine;
}

/**
 * 8254 interval timer of a PC with the speaker port (Intel 8254 data sheet). Counters 0 and 1 have their gates tied
 * high; counter 2's gate and output are in port 0x61. Rising edges of OUT 0 that fall together because the host
 * looked late are one edge. Not modelled: sound.
 */
export class I8254 implements IoHandler, Resettable, Snapshottable<I8254StateV1> {
  /** I/O ports occupied from 0x40; `portB` is one more. */
  static readonly PORT_COUNT = 4;

  readonly #clock: Clock;
  readonly #irq: InterruptLine;
  readonly #rate = new FixedRate(PIT_HZ);
  readonly #timer: Timer;
  readonly #counters = [
    new PitCounter({ gate: true }),
    new PitCounter({ gate: true }),
    new PitCounter({ gate: false }),
  ] as const;
  #portB = 0;
  #line = false;
  #syncedTick = 0;
  /** Port 0x61. */
  readonly portB: IoHandler = {
    read: () => this.#readPortB(),
    write: (_offset, _width, value) => {
      this.#portB = value & PortB.WRITABLE;
      this.#counters[2].setGate((value & PortB.GATE2) !== 0, this.#now());
    },
  };

  constructor(deps: I8254Deps) {
    this.#clock = deps.clock;
    this.#irq = deps.irq;
    this.#timer = deps.clock.createTimer(() => {
      this.#sync();
    });
  }

  read(offset: number, _width: IoWidth): number {
    return this.#counterAt(offset)?.read(this.#now()) ?? 0xff; // the control word cannot be read
  }

  write(offset: number, _width: IoWidth, value: number): void {
    this.#sync();
    const tick = this.#now();
    const counter = this.#counterAt(offset);
    if (counter !== undefined) counter.write(value, tick);
    else this.#control(value, tick);
    this.#sync();
  }

  reset(): void {
    for (const counter of this.#counters) counter.reset();
    this.#portB = 0;
    this.#line = false;
    this.#syncedTick = 0;
    this.#irq.set(false);
    this.#timer.disarm();
  }

  save(): I8254StateV1 {
    const [a, b, c] = this.#counters;
    return {
      version: 1,
      counters: [a.save(), b.save(), c.save()],
      portB: this.#portB,
      line: this.#line,
      syncedTick: this.#syncedTick,
    };
  }

  restore(state: I8254StateV1): void {
    const { counters, portB, line, syncedTick } = parseState("i8254", State, state);
    this.#counters[0].restore(counters[0]);
    this.#counters[1].restore(counters[1]);
    this.#counters[2].restore(counters[2]);
    this.#portB = portB;
    this.#line = line;
    this.#syncedTick = syncedTick;
    this.#irq.adopt(line);
    this.#arm();
  }

  #counterAt(offset: number): PitCounter | undefined {
    switch (offset) {
      case Reg.COUNTER0:
        return this.#counters[0];
      case Reg.COUNTER1:
        return this.#counters[1];
      case Reg.COUNTER2:
        return this.#counters[2];
      default:
        return undefined;
    }
  }

  #control(value: number, tick: number): void {
    const select = value >> 6;
    if (select === READ_BACK) {
      for (let index = 0; index < 3; index++) {
        if ((value & (2 << index)) === 0) continue;
        const counter = this.#counterAt(index);
        if ((value & ReadBack.NO_COUNT) === 0) counter?.latchCount(tick);
        if ((value & ReadBack.NO_STATUS) === 0) counter?.latchStatus(tick);
      }
      return;
    }
    const counter = this.#counterAt(select);
    if (((value >> 4) & 3) === Rw.LATCH) counter?.latchCount(tick);
    else counter?.program(value);
  }

  #readPortB(): number {
    const now = this.#clock.nowNs();
    const refresh = Math.floor(now / REFRESH_NS) % 2 === 1 ? PortB.REFRESH : 0;
    return this.#portB | refresh | (this.#counters[2].out(this.#rate.ticksAt(now)) ? PortB.OUT2 : 0);
  }

  #now(): number {
    return this.#rate.ticksAt(this.#clock.nowNs());
  }

  /** The only place that drives the line: shows it the edges since the last look, then the level. */
  #sync(): void {
    const tick = this.#now();
    const out = this.#counters[0];
    const rose = out.nextRise(this.#syncedTick) <= tick;
    if (rose) {
      this.#irq.set(false);
      this.#irq.set(true);
    }
    this.#line = out.out(tick);
    this.#irq.set(this.#line);
    this.#syncedTick = tick;
    this.#arm();
  }

  #arm(): void {
    const rise = this.#counters[0].nextRise(this.#syncedTick);
    if (rise === Infinity) this.#timer.disarm();
    else this.#timer.arm(this.#rate.nsOf(rise));
  }
}
