export { type BarOptions, type BarRegion } from "./bar.ts";
export { ConfigSpace } from "./config-space.ts";
export { MsixTable, type MsixTableStateV1 } from "./msix-table.ts";
export { PciBus, type PciSlot } from "./pci-bus.ts";
export {
  type PciCapability,
  PciFunction,
  type PciFunctionContext,
  type PciFunctionOptions,
  type PciFunctionStateV1,
} from "./pci-function.ts";
export * as pciSpec from "./spec.ts";
