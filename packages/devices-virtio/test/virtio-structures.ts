import type { PciFunction } from "@northbridge/sdk/pci";

/** Types of structures that a capability tells of (virtio 1.3 §4.1.4). */
export const Structure = { COMMON: 1, NOTIFY: 2, ISR: 3, PCI_CFG: 5 } as const;

/** Where a structure of a virtio device is; `at` is its capability. */
export interface PlacedStructure {
  readonly at: number;
  readonly bar: number;
  readonly offset: number;
  readonly length: number;
}

/** A function's structures by type, and where its MSI-X capability is. */
export function virtioStructures(fn: PciFunction): {
  readonly caps: ReadonlyMap<number, PlacedStructure>;
  readonly msixCap: number;
} {
  const caps = new Map<number, PlacedStructure>();
  let msixCap = 0;
  for (let at = fn.configRead(0x34, 1); at !== 0; at = fn.configRead(at + 1, 1)) {
    if (fn.configRead(at, 1) === 0x11) msixCap = at;
    if (fn.configRead(at, 1) !== 0x09) continue;
    caps.set(fn.configRead(at + 3, 1), {
      at,
      bar: fn.configRead(at + 4, 1),
      offset: fn.configRead(at + 8, 4),
      length: fn.configRead(at + 12, 4),
    });
  }
  return { caps, msixCap };
}
