export { I8259Pair, type I8259PairDeps, type I8259PairStateV1 } from "./i8259/i8259-pair.ts";
export { type I8259ChipStateV1 } from "./i8259/i8259.ts";
export { type ApicMessage, Ioapic, type IoapicDeps, type IoapicStateV1 } from "./ioapic/ioapic.ts";
export * as ioapicSpec from "./ioapic/spec.ts";
export { serial, type SerialConfig, type SerialPosition } from "./uart16550/plugin.ts";
export { Uart16550, type Uart16550Deps, type Uart16550StateV1 } from "./uart16550/uart16550.ts";
export { I8254, type I8254Deps, type I8254StateV1 } from "./i8254/i8254.ts";
export { type PitCounterStateV1 } from "./i8254/pit-counter.ts";
export { pit, type PitConfig } from "./i8254/plugin.ts";
