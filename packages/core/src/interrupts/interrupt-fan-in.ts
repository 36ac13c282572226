import { expectLevel, type InterruptLine, NorthbridgeError } from "../contracts/index.ts";

/** Inputs of a PC's I/O APIC, which are all the GSIs that a line can go to (82093AA §2.4). */
const GSI_COUNT = 24;

/**
 * Wired-OR of device lines into the inputs of the interrupt controllers: a GSI is high while any of its lines is.
 */
export class InterruptFanIn {
  readonly #setIrq: (gsi: number, level: boolean) => void;
  /** How many lines of each GSI are high. */
  readonly #high: number[] = [];

  constructor(setIrq: (gsi: number, level: boolean) => void) {
    this.#setIrq = setIrq;
  }

  /** A new line into `gsi`, low, that throws at what is no level. Throws `NB_CONFIG` where there is no such input. */
  line(gsi: number): InterruptLine {
    if (!Number.isInteger(gsi) || gsi < 0 || gsi >= GSI_COUNT) {
      throw new NorthbridgeError("NB_CONFIG", `expected a GSI from 0 to ${GSI_COUNT - 1}, found ${gsi}`);
    }
    const high = this.#high;
    const setIrq = this.#setIrq;
    high[gsi] ??= 0;
    let current = false;
    return {
      set(level: boolean): void {
        expectLevel(level);
        if (level === current) return;
        current = level;
        const count = (high[gsi] ?? 0) + (level ? 1 : -1);
        high[gsi] = count;
        if (level ? count === 1 : count === 0) setIrq(gsi, level);
      },
      adopt(level: boolean): void {
        expectLevel(level);
        if (level === current) return;
        current = level;
        high[gsi] = (high[gsi] ?? 0) + (level ? 1 : -1);
      },
    };
  }

  /** Says every level again: to controllers whose state is not what these lines made of it. */
  driveAll(): void {
    this.#high.forEach((count, gsi) => {
      this.#setIrq(gsi, count > 0);
    });
  }

  /** Whether any line of `gsi` is high. */
  level(gsi: number): boolean {
    return (this.#high[gsi] ?? 0) > 0;
  }
}
