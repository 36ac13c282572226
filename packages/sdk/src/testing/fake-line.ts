import type { InterruptLine } from "@northbridge/core/contracts";

/** Interrupt line that remembers its level and counts rising edges. */
export class FakeLine implements InterruptLine {
  level = false;
  edges = 0;

  set(level: boolean): void {
    if (level && !this.level) this.edges++;
    this.level = level;
  }

  adopt(level: boolean): void {
    this.level = level;
  }
}
