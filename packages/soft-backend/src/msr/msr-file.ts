import type { LocalApic } from "../lapic/local-apic.ts";
import type { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";
import {
  ArchCapabilities,
  FEATURE_CONTROL_VALUE,
  MISC_ENABLE_RESET,
  Msr,
  MTRRCAP_VALUE,
  PLATFORM_INFO_VALUE,
  VARIABLE_MTRRS,
} from "./spec.ts";

/** Registers that are storage and no more, with their reset values (low half; the high half is 0). */
const STORED: ReadonlyMap<number, number> = new Map<number, number>([
  [Msr.IA32_SPEC_CTRL, 0],
  [Msr.IA32_BIOS_SIGN_ID, 0],
  [Msr.MSR_MISC_FEATURES_ENABLES, 0],
  [Msr.IA32_MCG_STATUS, 0],
  [Msr.IA32_MISC_ENABLE, MISC_ENABLE_RESET],
  [Msr.IA32_DEBUGCTL, 0],
  ...Array.from({ length: VARIABLE_MTRRS * 2 }, (_, index) => [Msr.IA32_MTRR_PHYSBASE0 + index, 0] as const),
  [Msr.IA32_MTRR_FIX64K_00000, 0],
  [Msr.IA32_MTRR_FIX16K_80000, 0],
  [Msr.IA32_MTRR_FIX16K_A0000, 0],
  ...Array.from({ length: 8 }, (_, index) => [Msr.IA32_MTRR_FIX4K_C0000 + index, 0] as const),
  [Msr.IA32_MTRR_DEF_TYPE, 0],
]);

/** Position of each stored register in the file. */
const SLOT: ReadonlyMap<number, number> = new Map([...STORED.keys()].map((index, slot) => [index, slot]));

/**
 * The MSRs that the wasm core leaves to its host (Intel SDM 4). `read` leaves its answer in `low` and `high`.
 * An MSR that is not here raises #GP in the guest, as on hardware.
 */
export class MsrFile {
  readonly #lapic: LocalApic;
  readonly #tsc: TimeStampCounter;
  readonly #low: Uint32Array = new Uint32Array(STORED.size);
  readonly #high: Uint32Array = new Uint32Array(STORED.size);
  low = 0;
  high = 0;
  /** Accesses answered with #GP. */
  refused = 0;

  constructor(deps: { readonly lapic: LocalApic; readonly tsc: TimeStampCounter }) {
    this.#lapic = deps.lapic;
    this.#tsc = deps.tsc;
    this.reset();
  }

  reset(): void {
    let slot = 0;
    for (const value of STORED.values()) {
      this.#low[slot] = value;
      this.#high[slot] = 0;
      slot++;
    }
  }

  /** False: #GP. */
  read(index: number): boolean {
    const done = this.#read(index >>> 0);
    if (!done) this.refused++;
    return done;
  }

  /** False: #GP. */
  write(index: number, low: number, high: number): boolean {
    const done = this.#write(index >>> 0, low >>> 0, high >>> 0);
    if (!done) this.refused++;
    return done;
  }

  #answer(low: number, high: number): true {
    this.low = low >>> 0;
    this.high = high >>> 0;
    return true;
  }

  #read(index: number): boolean {
    if (index >= Msr.X2APIC_FIRST && index <= Msr.X2APIC_LAST) {
      const offset = (index - Msr.X2APIC_FIRST) << 4;
      const low = this.#lapic.readX2apic(offset);
      return low < 0 ? false : this.#answer(low, this.#lapic.readX2apicHigh(offset));
    }
    switch (index) {
      case Msr.IA32_TIME_STAMP_COUNTER:
        this.#tsc.sample();
        return this.#answer(this.#tsc.low, this.#tsc.high);
      case Msr.IA32_TSC_DEADLINE:
        return this.#answer(this.#lapic.tscDeadlineLow, this.#lapic.tscDeadlineHigh);
      case Msr.IA32_TSC_ADJUST:
        return this.#answer(this.#tsc.adjustLow, this.#tsc.adjustHigh);
      case Msr.IA32_APIC_BASE:
        return this.#answer(this.#lapic.baseLow, this.#lapic.baseHigh);
      case Msr.IA32_PLATFORM_ID:
      case Msr.MSR_SMI_COUNT:
      case Msr.IA32_MCG_CAP:
        return this.#answer(0, 0);
      case Msr.IA32_FEATURE_CONTROL:
        return this.#answer(FEATURE_CONTROL_VALUE, 0);
      case Msr.MSR_PLATFORM_INFO:
        return this.#answer(PLATFORM_INFO_VALUE, 0);
      case Msr.IA32_MTRRCAP:
        return this.#answer(MTRRCAP_VALUE, 0);
      case Msr.IA32_ARCH_CAPABILITIES:
        return this.#answer(ArchCapabilities.LOW, ArchCapabilities.HIGH);
      default: {
        const slot = SLOT.get(index);
        return slot === undefined ? false : this.#answer(this.#low[slot] ?? 0, this.#high[slot] ?? 0);
      }
    }
  }

  #write(index: number, low: number, high: number): boolean {
    if (index >= Msr.X2APIC_FIRST && index <= Msr.X2APIC_LAST) {
      return this.#lapic.writeX2apic((index - Msr.X2APIC_FIRST) << 4, low, high);
    }
    switch (index) {
      case Msr.IA32_TSC_DEADLINE:
        this.#lapic.writeTscDeadline(low, high);
        return true;
      case Msr.IA32_TIME_STAMP_COUNTER:
        this.#tsc.write(low, high);
        this.#lapic.tscMoved();
        return true;
      case Msr.IA32_TSC_ADJUST:
        this.#tsc.writeAdjust(low, high);
        this.#lapic.tscMoved();
        return true;
      case Msr.IA32_APIC_BASE:
        return this.#lapic.writeBase(low, high);
      case Msr.IA32_PRED_CMD:
      case Msr.IA32_FLUSH_CMD:
        return true; // barriers: there is nothing speculative to flush
      case Msr.IA32_BIOS_SIGN_ID:
        return true; // no microcode was loaded, so the next CPUID leaves the signature at zero
      default: {
        const slot = SLOT.get(index);
        if (slot === undefined) return false;
        this.#low[slot] = low;
        this.#high[slot] = high;
        return true;
      }
    }
  }

  /** Indices and values of the stored registers, in ascending order. */
  save(): (readonly [index: number, value: bigint])[] {
    return [...SLOT]
      .map(
        ([index, slot]) =>
          [index, (BigInt(this.#high[slot] ?? 0) << 32n) | BigInt(this.#low[slot] ?? 0)] as const,
      )
      .sort(([a], [b]) => a - b);
  }

  /** Loads one stored register; false where it is not one. */
  adopt(index: number, value: bigint): boolean {
    const slot = SLOT.get(index);
    if (slot === undefined) return false;
    this.#low[slot] = Number(value & 0xffff_ffffn);
    this.#high[slot] = Number(value >> 32n);
    return true;
  }
}
