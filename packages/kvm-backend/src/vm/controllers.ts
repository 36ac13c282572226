import type { InterruptControllers } from "@northbridge/devices-legacy";
import type { BusAccess, MsiTarget, Snapshottable } from "@northbridge/sdk";

/** The interrupt controllers of a VM but for the local APICs, wherever they are. */
export interface Controllers extends Snapshottable<unknown>, MsiTarget {
  setIrq(gsi: number, level: boolean): void;
  close(): void;
  /** Messages that no local APIC took. */
  readonly untakenMessages: number;
  /** Where they are outside of the kernel. */
  readonly outside?: OutsideControllers;
  /** Whether the kernel has local APICs. Without them HLT ends KVM_RUN. */
  readonly hasLocalApics: boolean;
}

/** Controllers that the guest's accesses and processors have to be taken to. */
export interface OutsideControllers {
  readonly ports: BusAccess;
  readonly mmio: BusAccess;
  /** Whether the 8259 pair asserts INTR. */
  readonly isAsserted: boolean;
  /** INTA: the vector that the processor takes. */
  acknowledge(): number;
  /** A local APIC saw the end of a level-triggered interrupt. */
  endOfInterrupt(vector: number): void;
}

/** Ports with those of the chips in front. */
export function portsOf(chips: InterruptControllers, behind: BusAccess): BusAccess {
  return {
    read: (port, width) =>
      chips.claims(port) && width === 1 ? chips.readPort(port) : behind.read(port, width),
    write: (port, width, value) => {
      if (chips.claims(port) && width === 1) chips.writePort(port, value);
      else behind.write(port, width, value);
    },
  };
}
