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
import { parseState, type StateSchema, tick as tickSchema, u8 } from "../state-schema.ts";
import { type AlarmTime, isDontCare, nextAlarm } from "./alarm.ts";
import { type CalendarTime, dayOfWeek, fillCalendar, secondsOf } from "./calendar.ts";
import {
  CRYSTAL_HZ,
  INDEX_MASK,
  PM,
  Port,
  POWER_ON_A,
  POWER_ON_B,
  RAM_LENGTH,
  Reg,
  RegA,
  RegB,
  RegC,
  RegD,
  UPDATE_WARNING_NS,
} from "./spec.ts";

/** Saved form, version 2. Frozen: add a `V3` and an upgrade instead of editing it. */
export interface RtcStateV2 {
  readonly version: 2;
  readonly index: number;
  /** The 128 bytes as last written or updated; flags of register C are live. */
  readonly ram: readonly number[];
  /** Time of the chip at guest time `baseNs`, in seconds since 1970 UTC. Stands still while SET or the divider says so. */
  readonly baseSeconds: number;
  readonly baseNs: number;
  /** The host's wall clock at guest time 0, as it was when that was said. */
  readonly epochMs: number;
  /** Guest time up to which events have been looked for. */
  readonly syncedNs: number;
}

const State: StateSchema<RtcStateV2> = v.strictObject({
  version: v.literal(2),
  index: v.pipe(u8, v.maxValue(INDEX_MASK)),
  ram: v.pipe(v.array(u8), v.length(RAM_LENGTH)),
  baseSeconds: tickSchema,
  baseNs: tickSchema,
  epochMs: tickSchema,
  syncedNs: tickSchema,
});

/** What the chip is wired to. */
export interface RtcDeps {
  readonly clock: Clock;
  /** IRQ 8; high from a flag with its enable to the read of register C. */
  readonly irq: InterruptLine;
}

const NS_PER_SECOND = 1_000_000_000;

/**
 * MC146818 real-time clock and 128 bytes of RAM (Motorola MC146818 data sheet), set to the host's UTC time at guest
 * time 0. It goes on with the host's wall clock while guest time stands still, as on a battery, and by what a guest has
 * set it off that. Time, RAM and modes survive a reset. Not modelled: daylight saving, square wave,
 * crystals other than 32768 Hz; the day of the week always fits the date.
 */
export class Rtc implements IoHandler, Resettable, Snapshottable<RtcStateV2> {
  readonly #clock: Clock;
  readonly #irq: InterruptLine;
  readonly #timer: Timer;
  readonly #crystal = new FixedRate(CRYSTAL_HZ);
  readonly #ram: Uint8Array = new Uint8Array(RAM_LENGTH);
  readonly #calendar: CalendarTime = { second: 0, minute: 0, hour: 0, day: 1, month: 1, year: 1970 };
  #index = 0;
  #baseSeconds: number;
  #baseNs: number;
  /** The wall clock that the chip agrees with, at guest time 0. */
  #epochMs: number;
  #syncedNs: number;
  /** Second that the time registers show. */
  #shown = NaN;

  constructor(deps: RtcDeps) {
    this.#clock = deps.clock;
    this.#irq = deps.irq;
    this.#timer = deps.clock.createTimer(() => {
      this.#sync();
    });
    this.#ram[Reg.A] = POWER_ON_A;
    this.#ram[Reg.B] = POWER_ON_B;
    this.#ram[Reg.D] = RegD.VALID_RAM_AND_TIME;
    this.#epochMs = Math.floor(deps.clock.epochMs);
    this.#baseSeconds = Math.floor(this.#epochMs / 1000);
    this.#baseNs = -(this.#epochMs - this.#baseSeconds * 1000) * 1_000_000;
    this.#syncedNs = Math.floor(deps.clock.nowNs());
  }

  read(offset: number, _width: IoWidth): number {
    if (offset !== Port.DATA) return 0xff; // the index cannot be read
    this.#look();
    const value = this.#readReg(this.#index);
    this.#drive();
    return value;
  }

  write(offset: number, _width: IoWidth, value: number): void {
    if (offset !== Port.DATA) {
      this.#index = value & INDEX_MASK; // bit 7 is the NMI mask of the board: there is no NMI to mask
      return;
    }
    this.#look();
    this.#writeReg(this.#index, value & 0xff);
    this.#drive();
  }

  /** The RESET pin: interrupts off, everything else stays. */
  reset(): void {
    this.#ram[Reg.B] = this.#b & ~(RegB.PERIODIC | RegB.ALARM | RegB.UPDATE_ENDED | RegB.SQUARE_WAVE);
    this.#ram[Reg.C] = 0;
    this.#index = 0;
    this.#syncedNs = this.#now();
    this.#drive();
  }

  /** The machine goes on. While it stood still the wall clock did not, and neither did the chip. */
  resume(): void {
    const epochMs = Math.floor(this.#clock.epochMs);
    const passedMs = epochMs - this.#epochMs;
    if (passedMs === 0) return;
    this.#look();
    const before = this.#secondsAt(this.#syncedNs);
    const seconds = Math.floor(passedMs / 1000);
    this.#epochMs = epochMs;
    this.#baseSeconds += seconds;
    this.#baseNs -= (passedMs - seconds * 1000) * 1_000_000;
    this.#noteSeconds(before, this.#secondsAt(this.#syncedNs));
    this.#drive();
  }

  save(): RtcStateV2 {
    return {
      version: 2,
      index: this.#index,
      ram: Array.from(this.#ram),
      baseSeconds: this.#baseSeconds,
      baseNs: this.#baseNs,
      epochMs: this.#epochMs,
      syncedNs: this.#syncedNs,
    };
  }

  restore(state: RtcStateV2): void {
    const { ram, index, baseSeconds, baseNs, epochMs, syncedNs } = parseState("rtc", State, state);
    this.#ram.set(ram);
    this.#index = index;
    this.#baseSeconds = baseSeconds;
    this.#baseNs = baseNs;
    this.#epochMs = epochMs;
    this.#syncedNs = syncedNs;
    this.#shown = NaN;
    this.#irq.adopt(this.#level);
    this.#arm();
  }

  #readReg(index: number): number {
    switch (index) {
      case Reg.A:
        return (this.#ram[Reg.A] ?? 0) | (this.#isUpdating ? RegA.UPDATE_IN_PROGRESS : 0);
      case Reg.C: {
        const flags = (this.#ram[Reg.C] ?? 0) | (this.#level ? RegC.IRQ : 0);
        this.#ram[Reg.C] = 0; // cleared by the read
        return flags;
      }
      default:
        if (isTime(index)) this.#show();
        return this.#ram[index] ?? 0;
    }
  }

  #writeReg(index: number, value: number): void {
    const ran = this.#isRunning;
    if (isTime(index)) this.#show();
    switch (index) {
      case Reg.A:
        if (ran) this.#show();
        this.#ram[Reg.A] = value & ~RegA.UPDATE_IN_PROGRESS;
        break;
      case Reg.B:
        if (ran) this.#show();
        // SET ends updates, and their interrupt with them (data sheet, "SET").
        this.#ram[Reg.B] = (value & RegB.SET) !== 0 ? value & ~RegB.UPDATE_ENDED : value;
        this.#shown = NaN; // the format may be another
        break;
      case Reg.C:
      case Reg.D:
        break; // read-only
      default:
        this.#ram[index] = value;
        break;
    }
    if (!this.#isRunning) return;
    if (!ran) {
      // A divider that was held in reset makes its first update half a second on.
      const isRelease = index === Reg.A;
      this.#take(this.#now() - (isRelease ? NS_PER_SECOND / 2 : 0));
    } else if (isTime(index)) {
      this.#take(this.#now() - ((this.#now() - this.#baseNs) % NS_PER_SECOND));
    }
  }

  /** Sets the clock to what the time registers say, as of `ns`. */
  #take(ns: number): void {
    const ram = this.#ram;
    const century = this.#decode(ram[Reg.CENTURY] ?? 0);
    this.#baseSeconds = secondsOf({
      second: this.#decode(ram[Reg.SECONDS] ?? 0),
      minute: this.#decode(ram[Reg.MINUTES] ?? 0),
      hour: this.#decodeHour(ram[Reg.HOURS] ?? 0),
      day: this.#decode(ram[Reg.DAY_OF_MONTH] ?? 0),
      month: this.#decode(ram[Reg.MONTH] ?? 0),
      year: century * 100 + this.#decode(ram[Reg.YEAR] ?? 0),
    });
    this.#baseNs = ns;
    this.#shown = NaN;
  }

  /** Brings the time registers up to date. While the clock is stopped they hold what was written. */
  #show(): void {
    if (!this.#isRunning) return;
    const seconds = this.#secondsAt(this.#now());
    if (seconds === this.#shown) return;
    this.#shown = seconds;
    const [ram, time] = [this.#ram, this.#calendar];
    fillCalendar(seconds, time);
    ram[Reg.SECONDS] = this.#encode(time.second);
    ram[Reg.MINUTES] = this.#encode(time.minute);
    ram[Reg.HOURS] = this.#encodeHour(time.hour);
    ram[Reg.DAY_OF_WEEK] = this.#encode(dayOfWeek(seconds));
    ram[Reg.DAY_OF_MONTH] = this.#encode(time.day);
    ram[Reg.MONTH] = this.#encode(time.month);
    ram[Reg.YEAR] = this.#encode(time.year % 100);
    ram[Reg.CENTURY] = this.#encode(Math.floor(time.year / 100) % 100);
  }

  /** Sets the flags of what happened since the last look. */
  #look(): void {
    const [from, to] = [this.#syncedNs, this.#now()];
    this.#syncedNs = to;
    const period = this.#period;
    if (
      period > 0 &&
      Math.floor(this.#crystal.ticksAt(to) / period) > Math.floor(this.#crystal.ticksAt(from) / period)
    ) {
      this.#flag(RegB.PERIODIC);
    }
    this.#noteSeconds(this.#secondsAt(from), this.#secondsAt(to));
  }

  /** Sets the flags of seconds that have passed, where the chip counts them. */
  #noteSeconds(from: number, to: number): void {
    if (!this.#isRunning || to <= from) return;
    this.#flag(RegB.UPDATE_ENDED);
    if (nextAlarm(this.#alarm(), from + 1) <= to) this.#flag(RegB.ALARM);
  }

  #flag(bit: number): void {
    this.#ram[Reg.C] = (this.#ram[Reg.C] ?? 0) | bit;
  }

  #sync(): void {
    this.#look();
    this.#drive();
  }

  /** The only place that drives the line. */
  #drive(): void {
    this.#irq.set(this.#level);
    this.#arm();
  }

  /** Looks again when the next enabled flag is due; one that is set already waits for the guest. */
  #arm(): void {
    const wanted = this.#b & ~(this.#ram[Reg.C] ?? 0);
    let next = Infinity;
    const period = this.#period;
    if ((wanted & RegB.PERIODIC) !== 0 && period > 0) {
      const tick = this.#crystal.ticksAt(this.#syncedNs);
      next = this.#crystal.nsOf((Math.floor(tick / period) + 1) * period);
    }
    if (this.#isRunning) {
      const second = this.#secondsAt(this.#syncedNs) + 1;
      if ((wanted & RegB.UPDATE_ENDED) !== 0) next = Math.min(next, this.#nsOfSecond(second));
      if ((wanted & RegB.ALARM) !== 0)
        next = Math.min(next, this.#nsOfSecond(nextAlarm(this.#alarm(), second)));
    }
    if (next === Infinity) this.#timer.disarm();
    else this.#timer.arm(next);
  }

  #alarm(): AlarmTime {
    const ram = this.#ram;
    const [second, minute, hour] = [
      ram[Reg.SECONDS_ALARM] ?? 0,
      ram[Reg.MINUTES_ALARM] ?? 0,
      ram[Reg.HOURS_ALARM] ?? 0,
    ];
    return {
      second: isDontCare(second) ? undefined : this.#decode(second),
      minute: isDontCare(minute) ? undefined : this.#decode(minute),
      hour: isDontCare(hour) ? undefined : this.#decodeHour(hour),
    };
  }

  #now(): number {
    return Math.floor(this.#clock.nowNs());
  }

  #secondsAt(ns: number): number {
    return this.#baseSeconds + Math.floor((ns - this.#baseNs) / NS_PER_SECOND);
  }

  #nsOfSecond(second: number): number {
    return this.#baseNs + (second - this.#baseSeconds) * NS_PER_SECOND;
  }

  get #isUpdating(): boolean {
    if (!this.#isRunning) return false;
    const sinceUpdate = (((this.#now() - this.#baseNs) % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
    return sinceUpdate >= NS_PER_SECOND - UPDATE_WARNING_NS;
  }

  get #isRunning(): boolean {
    return (this.#b & RegB.SET) === 0 && ((this.#ram[Reg.A] ?? 0) & RegA.DIVIDER) === RegA.DIVIDER_32KHZ;
  }

  /** Periodic interrupt in crystal periods; 0 is off. Rates 1 and 2 repeat 8 and 9 (data sheet, table 5). */
  get #period(): number {
    const rate = (this.#ram[Reg.A] ?? 0) & RegA.RATE;
    if (rate === 0 || ((this.#ram[Reg.A] ?? 0) & RegA.DIVIDER) !== RegA.DIVIDER_32KHZ) return 0;
    return rate < 3 ? 1 << (rate + 6) : 1 << (rate - 1);
  }

  get #b(): number {
    return this.#ram[Reg.B] ?? 0;
  }

  get #level(): boolean {
    return ((this.#ram[Reg.C] ?? 0) & this.#b & RegC.FLAGS) !== 0;
  }

  #encode(value: number): number {
    return (this.#b & RegB.BINARY) !== 0 ? value : (Math.floor(value / 10) << 4) | (value % 10);
  }

  #decode(raw: number): number {
    return (this.#b & RegB.BINARY) !== 0 ? raw : (raw >> 4) * 10 + (raw & 15);
  }

  #encodeHour(hour: number): number {
    if ((this.#b & RegB.HOUR_24) !== 0) return this.#encode(hour);
    return this.#encode(hour % 12 || 12) | (hour >= 12 ? PM : 0);
  }

  #decodeHour(raw: number): number {
    if ((this.#b & RegB.HOUR_24) !== 0) return this.#decode(raw);
    return (this.#decode(raw & ~PM) % 12) + ((raw & PM) !== 0 ? 12 : 0);
  }
}

/** Registers that an update changes. */
function isTime(index: number): boolean {
  return (
    index === Reg.SECONDS ||
    index === Reg.MINUTES ||
    index === Reg.HOURS ||
    (index >= Reg.DAY_OF_WEEK && index <= Reg.YEAR) ||
    index === Reg.CENTURY
  );
}
