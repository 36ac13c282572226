export { AcpiPm, type AcpiPmDeps, type AcpiPmStateV1 } from "./acpi-pm/acpi-pm.ts";
export { acpiPm, type AcpiPmConfig } from "./acpi-pm/plugin.ts";
export { DebugConsole } from "./debug-console/debug-console.ts";
export { debugConsole, type DebugConsoleConfig } from "./debug-console/plugin.ts";
export { DebugExit } from "./debug-exit/debug-exit.ts";
export { debugExit, type DebugExitConfig } from "./debug-exit/plugin.ts";
export { I8042, type I8042Deps, type I8042StateV1 } from "./i8042/i8042.ts";
export { i8042 } from "./i8042/plugin.ts";
export { I8254, type I8254Deps, type I8254StateV1 } from "./i8254/i8254.ts";
export { type PitCounterStateV1 } from "./i8254/pit-counter.ts";
export { pit } from "./i8254/plugin.ts";
export { type I8259ChipStateV1 } from "./i8259/i8259.ts";
export { I8259Pair, type I8259PairDeps, type I8259PairStateV1 } from "./i8259/i8259-pair.ts";
export {
  InterruptControllers,
  type InterruptControllersStateV1,
  IOAPIC_PAGE,
} from "./interrupt-controllers/interrupt-controllers.ts";
export { type ApicMessage, Ioapic, type IoapicDeps, type IoapicStateV1 } from "./ioapic/ioapic.ts";
export * as ioapicSpec from "./ioapic/spec.ts";
export { type NoConfig } from "./no-config.ts";
export { pc1Board } from "./pc-1/board.ts";
export { pc1 } from "./pc-1/pc-1.ts";
export { topology as pc1Topology } from "./pc-1/topology.ts";
export { PciHost, type PciHostDeps, type PciHostStateV1 } from "./pci-host/pci-host.ts";
export { pciHost, type PciHostConfig } from "./pci-host/plugin.ts";
export { pvpanic } from "./pvpanic/plugin.ts";
export { Pvpanic } from "./pvpanic/pvpanic.ts";
export { rtc } from "./rtc/plugin.ts";
export { Rtc, type RtcDeps, type RtcStateV2 } from "./rtc/rtc.ts";
export { serial, type SerialConfig, type SerialPosition } from "./uart16550/plugin.ts";
export { Uart16550, type Uart16550Deps, type Uart16550StateV1 } from "./uart16550/uart16550.ts";
