import { RestoreError, type Resettable, type Snapshottable } from "@northbridge/sdk";
import { I8259Pair, type I8259PairStateV1 } from "../i8259/i8259-pair.ts";
import { type ApicMessage, Ioapic, type IoapicStateV1 } from "../ioapic/ioapic.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface InterruptControllersStateV1 {
  readonly version: 1;
  readonly i8259: I8259PairStateV1;
  readonly ioapic: IoapicStateV1;
}

const PIC_MASTER = 0x20;
const PIC_SLAVE = 0xa0;
const ELCR = 0x4d0;
/** Page number of 0xFEC00000. */
export const IOAPIC_PAGE = 0xfec00;

/**
 * The controllers that a backend holds itself (docs/adr/0004): the 8259 pair and the I/O APIC, with the PC's wiring of
 * GSIs to both. Local APICs are the backend's own.
 */
export class InterruptControllers implements Resettable, Snapshottable<unknown> {
  readonly pic: I8259Pair;
  readonly ioapic: Ioapic;

  /**
   * @param deps.deliver takes what the I/O APIC sends to local APICs: read the message during the call
   * @param deps.picOutput is INTR of the 8259 pair
   */
  constructor(deps: {
    readonly deliver: (message: ApicMessage) => void;
    readonly picOutput: (level: boolean) => void;
  }) {
    this.pic = new I8259Pair({ intr: deps.picOutput });
    this.ioapic = new Ioapic({ deliver: deps.deliver });
  }

  /** GSI 0 is the timer: PIC input 0 and IOAPIC pin 2. GSI 2, the cascade, reaches nothing. */
  setIrq(gsi: number, level: boolean): void {
    if (gsi < 16) this.pic.setIrq(gsi, level);
    if (gsi !== 2) this.ioapic.setIrq(gsi === 0 ? 2 : gsi, level);
  }

  /** Whether a port is one of the chips'. */
  claims(port: number): boolean {
    return (port & 0xff7e) === PIC_MASTER || (port & 0xfffe) === ELCR;
  }

  /** @param port one that `claims` */
  readPort(port: number): number {
    const offset = port & 1;
    const pair = port & 0xfffe;
    return pair === PIC_MASTER
      ? this.pic.master.read(offset, 1)
      : pair === PIC_SLAVE
        ? this.pic.slave.read(offset, 1)
        : this.pic.elcr.read(offset, 1);
  }

  /** @param port one that `claims` */
  writePort(port: number, value: number): void {
    const offset = port & 1;
    const pair = port & 0xfffe;
    if (pair === PIC_MASTER) this.pic.master.write(offset, 1, value);
    else if (pair === PIC_SLAVE) this.pic.slave.write(offset, 1, value);
    else this.pic.elcr.write(offset, 1, value);
  }

  reset(): void {
    this.pic.reset();
    this.ioapic.reset();
  }

  save(): InterruptControllersStateV1 {
    return { version: 1, i8259: this.pic.save(), ioapic: this.ioapic.save() };
  }

  restore(state: unknown): void {
    const saved = state as Partial<InterruptControllersStateV1> | null;
    if (saved?.version !== 1 || saved.i8259 === undefined || saved.ioapic === undefined) {
      throw new RestoreError(
        "irqchip",
        `expected version 1 with i8259 and ioapic, found version ${String(saved?.version)}`,
      );
    }
    this.pic.restore(saved.i8259);
    this.ioapic.restore(saved.ioapic);
  }
}
