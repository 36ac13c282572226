import { type Token, token } from "@northbridge/core/contracts";
import type { PciFunction } from "./pci-function.ts";

/** Where a function sits on bus 0. */
export interface PciSlot {
  /** 0–31. */
  readonly device: number;
  /** 0–7. */
  readonly function: number;
}

/** What a PCI root offers to devices. It resets, saves and restores the functions' configuration spaces. */
export interface PciBus {
  /**
   * Plugs a function in: at `slot`, or as function 0 of the lowest free device number.
   * Throws `NB_CONFIG` where the slot is taken or the bus is full.
   */
  attach(fn: PciFunction, slot?: Partial<PciSlot>): PciSlot;
}

/** Provided by the machine's PCI host bridge. */
export const PciBus: Token<PciBus> = token<PciBus>("pciBus");
