import { InterruptControllers } from "@northbridge/devices-legacy";
import type { BusAccess } from "@northbridge/sdk";
import { type Controllers, type OutsideControllers, portsOf } from "./controllers.ts";

/**
 * No interrupt controller in the kernel: the 8259 pair on the machine thread interrupts the only processor, and there
 * are no local APICs. The I/O APIC and messages therefore reach nobody; its registers are not there.
 */
export class PicOnly implements Controllers {
  readonly hasLocalApics = false;
  readonly outside: OutsideControllers;
  readonly #chips: InterruptControllers;
  #isAsserted = false;
  untakenMessages = 0;

  /** @param deps.asserted the 8259 pair has an interrupt for the processor */
  constructor(deps: {
    readonly ports: BusAccess;
    readonly mmio: BusAccess;
    readonly asserted: () => void;
  }) {
    this.#chips = new InterruptControllers({
      deliver: () => {
        this.untakenMessages++;
      },
      picOutput: (level) => {
        this.#isAsserted = level;
        if (level) deps.asserted();
      },
    });
    const asserted = (): boolean => this.#isAsserted;
    this.outside = {
      ports: portsOf(this.#chips, deps.ports),
      mmio: deps.mmio,
      get isAsserted(): boolean {
        return asserted();
      },
      acknowledge: () => this.#chips.pic.acknowledge(),
      endOfInterrupt: () => undefined,
    };
  }

  setIrq(gsi: number, level: boolean): void {
    this.#chips.setIrq(gsi, level);
  }

  signal(): void {
    this.untakenMessages++;
  }

  save(): unknown {
    return this.#chips.save();
  }

  restore(state: unknown): void {
    this.#chips.restore(state);
  }

  close(): void {
    // Nothing of it is the kernel's.
  }
}
