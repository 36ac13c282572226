import type { IoHandler, Resettable, Snapshottable } from "@northbridge/sdk";
import * as v from "valibot";
import { parseState, type StateSchema } from "../state-schema.ts";
import { I8259, I8259ChipState, type I8259ChipStateV1 } from "./i8259.ts";
import { CASCADE, ELCR_MASK } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface I8259PairStateV1 {
  readonly version: 1;
  readonly master: I8259ChipStateV1;
  readonly slave: I8259ChipStateV1;
}

const State: StateSchema<I8259PairStateV1> = v.strictObject({
  version: v.literal(1),
  master: I8259ChipState,
  slave: I8259ChipState,
});

/** What the pair drives. */
export interface I8259PairDeps {
  /** The INTR output changed to `level`. Called inside the access or line change that did it. */
  intr(level: boolean): void;
}

/**
 * The two 8259A of a PC (Intel 8259A data sheet; ELCR: Intel 82371AB §4.1.9), slave on input 2 of the master.
 *
 * A pure chip for backends: it has no ports and no lines of its own. A backend maps `master` at 0x20 and `slave` at
 * 0xA0 (two ports each) and `elcr` at 0x4D0 (two ports), feeds ISA lines to `setIrq`, and on INTR calls
 * `acknowledge` at an instruction boundary. It is not a device of `pc-1`, as KVM's pair is not one either.
 */
export class I8259Pair implements Resettable, Snapshottable<I8259PairStateV1> {
  readonly #intr: (level: boolean) => void;
  readonly #master: I8259;
  readonly #slave: I8259;
  #level = false;
  /** Two ports: command and data. */
  readonly master: IoHandler;
  /** Two ports: command and data. */
  readonly slave: IoHandler;
  /** Edge/level control registers: two ports, master first. */
  readonly elcr: IoHandler;

  constructor(deps: I8259PairDeps) {
    this.#intr = (level) => {
      deps.intr(level);
    };
    const changed = (): void => {
      this.#sync();
    };
    const master = new I8259({ elcrMask: ELCR_MASK.master, cascade: 1 << CASCADE, changed });
    const slave = new I8259({ elcrMask: ELCR_MASK.slave, cascade: 0, changed });
    this.#master = this.master = master;
    this.#slave = this.slave = slave;
    this.elcr = {
      read: (offset) => (offset === 0 ? master : slave).elcr,
      write: (offset, _width, value) => {
        (offset === 0 ? master : slave).setElcr(value);
        changed();
      },
    };
  }

  /** Level of the INTR output. */
  get intr(): boolean {
    return this.#level;
  }

  /** @param irq ISA line 0–15; 2 is the cascade and cannot be driven */
  setIrq(irq: number, level: boolean): void {
    if (irq === CASCADE) return;
    if (irq < 8) this.#master.setInput(irq, level);
    else this.#slave.setInput(irq - 8, level);
    this.#sync();
  }

  /**
   * The processor's INTA cycle. Returns the vector; that of input 7 of the chip concerned where the request has gone
   * meanwhile (spurious interrupt).
   */
  acknowledge(): number {
    const input = this.#master.acknowledge();
    const vector =
      input === CASCADE ? this.#slave.vector(this.#slave.acknowledge()) : this.#master.vector(input);
    this.#sync();
    return vector;
  }

  reset(): void {
    this.#master.reset();
    this.#slave.reset();
    this.#sync();
  }

  save(): I8259PairStateV1 {
    return { version: 1, master: this.#master.save(), slave: this.#slave.save() };
  }

  /** Does not call `intr`: the processor's state is restored apart. Read `intr` afterwards. */
  restore(state: I8259PairStateV1): void {
    const { master, slave } = parseState("i8259", State, state);
    this.#master.restore(master);
    this.#slave.restore(slave);
    this.#level = this.#master.int;
  }

  #sync(): void {
    this.#master.setInput(CASCADE, this.#slave.int);
    const level = this.#master.int;
    if (level === this.#level) return;
    this.#level = level;
    this.#intr(level);
  }
}
