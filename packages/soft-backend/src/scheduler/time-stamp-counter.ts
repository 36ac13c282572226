import type { Clock } from "@northbridge/sdk";

const TWO_32 = 0x1_0000_0000;

const NS_PER_MS = 1e6;
/** A tick a nanosecond. */
export const DEFAULT_TSC_KHZ = 1e6;

/**
 * One vCPU's time-stamp counter: ticks of guest time plus an offset that the guest may move
 * (SDM 3B §18.17). Values are lo/hi pairs of unsigned 32-bit numbers.
 */
export class TimeStampCounter {
  readonly #clock: Clock;
  #offsetLow = 0;
  #offsetHigh = 0;
  #adjustLow = 0;
  #adjustHigh = 0;
  #khz = DEFAULT_TSC_KHZ;
  /** Ticks since guest time began. */
  #ticksLow = 0;
  #ticksHigh = 0;
  /** Result of `sample`. */
  low = 0;
  high = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** IA32_TSC_ADJUST, low half. */
  get adjustLow(): number {
    return this.#adjustLow;
  }

  get adjustHigh(): number {
    return this.#adjustHigh;
  }

  reset(): void {
    this.set(0, 0);
    this.#adjustLow = 0;
    this.#adjustHigh = 0;
  }

  /** Counts at another rate from its present value on. */
  setRate(khz: number): void {
    this.sample();
    this.#khz = khz;
    this.set(this.low, this.high);
  }

  /** Puts the counter's present value into `low` and `high`. */
  sample(): void {
    this.#count();
    const sum = this.#ticksLow + this.#offsetLow;
    this.low = sum >>> 0;
    this.high = (this.#ticksHigh + this.#offsetHigh + (sum >= TWO_32 ? 1 : 0)) >>> 0;
  }

  /** Sets the counter without touching IA32_TSC_ADJUST: power-on and restore. */
  set(low: number, high: number): void {
    this.#count();
    const difference = (low >>> 0) - this.#ticksLow;
    this.#offsetLow = difference >>> 0;
    this.#offsetHigh = ((high >>> 0) - this.#ticksHigh - (difference < 0 ? 1 : 0)) >>> 0;
  }

  /** Guest time in ticks, rounded down. */
  #count(): void {
    const ns = this.#clock.nowNs();
    if (this.#khz === DEFAULT_TSC_KHZ) {
      this.#ticksLow = (ns % TWO_32) >>> 0;
      this.#ticksHigh = Math.floor(ns / TWO_32);
      return;
    }
    // Whole milliseconds in two parts of 16 bits: no product is beyond 53 bits.
    const ms = Math.floor(ns / NS_PER_MS);
    const upper = Math.floor(ms / 0x1_0000) * this.#khz;
    const lower = (ms % 0x1_0000) * this.#khz + Math.floor(((ns % NS_PER_MS) * this.#khz) / NS_PER_MS);
    const sum = (upper % 0x1_0000) * 0x1_0000 + lower;
    this.#ticksLow = sum % TWO_32;
    this.#ticksHigh = Math.floor(upper / 0x1_0000) + Math.floor(sum / TWO_32);
  }

  /** A guest's WRMSR to IA32_TIME_STAMP_COUNTER: IA32_TSC_ADJUST moves by the same amount. */
  write(low: number, high: number): void {
    const wasLow = this.#offsetLow;
    const wasHigh = this.#offsetHigh;
    this.set(low, high);
    const delta = this.#offsetLow - wasLow;
    const deltaHigh = (this.#offsetHigh - wasHigh - (delta < 0 ? 1 : 0)) >>> 0;
    const sum = this.#adjustLow + (delta >>> 0);
    this.#adjustLow = sum >>> 0;
    this.#adjustHigh = (this.#adjustHigh + deltaHigh + (sum >= TWO_32 ? 1 : 0)) >>> 0;
  }

  /** A guest's WRMSR to IA32_TSC_ADJUST: the counter moves by the difference. */
  writeAdjust(low: number, high: number): void {
    const delta = (low >>> 0) - this.#adjustLow;
    const deltaHigh = ((high >>> 0) - this.#adjustHigh - (delta < 0 ? 1 : 0)) >>> 0;
    const sum = this.#offsetLow + (delta >>> 0);
    this.#offsetLow = sum >>> 0;
    this.#offsetHigh = (this.#offsetHigh + deltaHigh + (sum >= TWO_32 ? 1 : 0)) >>> 0;
    this.adoptAdjust(low, high);
  }

  /** Takes IA32_TSC_ADJUST over without moving the counter: restore. */
  adoptAdjust(low: number, high: number): void {
    this.#adjustLow = low >>> 0;
    this.#adjustHigh = high >>> 0;
  }

  /** Guest time at which the counter reaches the given value. */
  nanosecondsAt(low: number, high: number): number {
    const difference = (low >>> 0) - this.#offsetLow;
    // As a signed number: a counter set back by the guest makes the offset "negative".
    const differenceHigh = ((high >>> 0) - this.#offsetHigh - (difference < 0 ? 1 : 0)) | 0;
    const ticks = differenceHigh * TWO_32 + (difference >>> 0);
    if (this.#khz === DEFAULT_TSC_KHZ) return ticks;
    const ms = Math.floor(ticks / this.#khz);
    return ms * NS_PER_MS + Math.ceil(((ticks - ms * this.#khz) * NS_PER_MS) / this.#khz);
  }
}
