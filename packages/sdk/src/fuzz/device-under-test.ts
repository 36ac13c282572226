import { type DeviceEntry, type IoRegion, whatJsonDrops } from "@northbridge/core/contracts";
import { TestBench, type TestBenchOptions } from "../bench/test-bench.ts";
import type { TraceEvent } from "../bench/trace.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import { FakeClock } from "../testing/fake-clock.ts";

/** What a device is judged by. */
export type LawName =
  | "fuzz"
  | "register map"
  | "data sheet"
  | "save and restore"
  | "reset"
  | "interrupt levels"
  | "bus master";

/** Knows what a device's data sheet says beside its register map: how long a transfer is, when it ends, what it raises. */
export interface DeviceChecker {
  /**
   * Hears of everything that crossed the device's edge in one operation on a bench: accesses, interrupts, DMA; and of
   * the time that has passed. Throws where that is not what the data sheet says.
   */
  see(events: readonly TraceEvent[], bench: TestBench): void;
}

/** A device to judge. */
export interface DeviceUnderTest {
  /** Makes one, always the same. */
  create(): DeviceEntry;
  /** Makes the fuzzer know values that do something. Without it the fuzzer finds registers out by trying. */
  readonly registers?: RegisterMap<RegisterSpecs>;
  /** Host ends and services that the device needs; called for every device that is made. */
  readonly prepare?: TestBenchOptions<RegisterSpecs>["prepare"];
  /** Makes one for a new device: it is asked about every program. Without one nobody knows how long a transfer should be. */
  readonly checker?: () => DeviceChecker;
  /** Its interrupt lines drive edge-triggered inputs: they may go up and down at once. */
  readonly pulses?: boolean;
  /** Laws that it does not keep: nothing tries them. */
  readonly except?: readonly LawName[];
  /** How a counterexample makes the device. @defaultValue `"device()"` */
  readonly code?: string;
  /** How it names the register map. @defaultValue `"registers"` */
  readonly registersCode?: string;
  /** Where it imports both from. They are in scope where it is pasted, if this is absent; so are `prepare` and `checker`. */
  readonly importCode?: string;
}

/** A bench with the device, BARs placed, at a guest time. */
export function benchFor(device: DeviceUnderTest, nowNs = 0): Promise<TestBench> {
  const bench = new TestBench<RegisterSpecs>({
    clock: new FakeClock({ nowNs }),
    ...(device.registers && { registers: device.registers }),
    ...(device.prepare && { prepare: device.prepare }),
  });
  return bench.setUp(device.create()).then(() => {
    bench.pci.enumerate();
    return bench;
  });
}

/** The device as it is now in another bench: what a machine's snapshot does. */
export async function clone(device: DeviceUnderTest, bench: TestBench): Promise<TestBench> {
  const other = await benchFor(device, bench.clock.nowNs());
  other.memory.bytes.set(bench.memory.bytes);
  const functions = bench.pci.functions.map((fn) => fn.save());
  const state = savedState(bench);
  if (bench.device.save === undefined || other.device.restore === undefined) {
    throw new Error("the device has no `save` or no `restore`");
  }
  const { device: restored, pci } = other;
  const shown = other.record(() => {
    restored.restore?.(state === undefined ? undefined : JSON.parse(JSON.stringify(state)));
    pci.functions.forEach((fn, at) => {
      const saved = functions[at];
      if (saved !== undefined) fn.restore(saved);
    });
  });
  const [edge] = shown.filter(({ kind }) => kind === "irq" || kind === "msi" || kind === "dma");
  if (edge !== undefined)
    throw new Error(`restore is not silent: ${JSON.stringify(edge)}; a restored level is no edge: use adopt`);
  return other;
}

/** What the device saves. Throws where a snapshot would hold something else. */
export function savedState({ device }: TestBench): unknown {
  const state: unknown = device.save?.();
  if (device.save !== undefined && state === undefined)
    throw new Error("`save` gave nothing that could be restored");
  const dropped = whatJsonDrops(state);
  if (dropped !== undefined) throw new Error(`what 'save' gave does not survive JSON: ${dropped}`);
  return state;
}

/** Everything that the device maps. */
export const regionsOf = ({ machine }: TestBench, space: "mmio" | "ports"): readonly IoRegion[] =>
  (space === "mmio" ? machine.mmio : machine.portBus).regions;
