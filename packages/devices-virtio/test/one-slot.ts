import type { PciBus, PciFunction, PciSlot } from "@northbridge/sdk/pci";

/** Random bytes that are not. */
export const entropy = {
  fill: (into: Uint8Array): void => {
    into.fill(0x5a);
  },
};

/** A PCI bus with one function on it. */
export class OneSlot implements PciBus {
  fn: PciFunction | undefined;

  attach(fn: PciFunction): PciSlot {
    this.fn = fn;
    fn.connect(17);
    return { device: 1, function: 0 };
  }
}
