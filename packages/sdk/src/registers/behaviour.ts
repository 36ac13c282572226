import type { RegisterSpecs } from "./declaration.ts";

/** What a device does when a guest touches a register. Both run inside the access. */
export interface RegisterHooks {
  /**
   * Says what the guest reads. Bits that reading clears are cleared already.
   * @param stored the value before the read
   * @param index of the element, where it is an array
   */
  read?(stored: number, index: number): number;
  /**
   * Hears of a write after the access rules are applied.
   * @param stored what the register holds now
   * @param previous what it held before
   * @param written the bits as the guest wrote them; those it did not touch are 0
   */
  write?(stored: number, previous: number, written: number, index: number): void;
}

/** The side effects of a device's registers. */
export interface RegisterBehaviour<R extends RegisterSpecs> {
  readonly hooks?: { readonly [K in keyof R]?: RegisterHooks };
  /** Called after every write and after every read that cleared bits: the one place that drives the interrupt. */
  sync?(): void;
}
