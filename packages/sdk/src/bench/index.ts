export { BenchMemory } from "./bench-memory.ts";
export { BenchPciBus, type EnumeratedBar, type EnumeratedFunction } from "./bench-pci.ts";
export { FakeDisk } from "./fake-disk.ts";
export { FakeNet } from "./fake-net.ts";
export { InterruptProbe, type MsiMessage } from "./interrupt-probe.ts";
export { TestBench, testBench, type TestBenchOptions } from "./test-bench.ts";
export type { TraceEvent } from "./trace.ts";
