import type { DeviceEntry } from "@northbridge/core/contracts";
import { TestBench, type TestBenchOptions } from "../bench/test-bench.ts";
import type { TraceEvent } from "../bench/trace.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import type { Place, Step } from "./program.ts";

/** What a device is judged by. */
export type LawName = "fuzz" | "register map" | "save and restore" | "reset" | "interrupt levels";

/** A device to judge: how to make one, always the same. */
export interface DeviceUnderTest {
  create(): DeviceEntry;
  /** Makes the fuzzer know values that do something. */
  readonly registers?: RegisterMap<RegisterSpecs>;
  /** Host ends and services that the device needs; called for every device that is made. */
  readonly prepare?: TestBenchOptions<RegisterSpecs>["prepare"];
  /** Its interrupt lines drive edge-triggered inputs: they may go up and down at once. */
  readonly pulses?: boolean;
  /** Laws that it does not keep: nothing tries them. */
  readonly except?: readonly LawName[];
  /** How a counterexample makes the device. @defaultValue `"device()"` */
  readonly code?: string;
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

/** Everything that the device maps. */
export function placesOf(bench: TestBench, map: RegisterMap<RegisterSpecs> | undefined): readonly Place[] {
  const registers = map === undefined ? undefined : bench.registerRegion().region;
  return (["mmio", "ports"] as const).flatMap((space) =>
    (space === "mmio" ? bench.machine.mmio : bench.machine.portBus).regions.map((region) => ({
      space,
      base: region.base,
      length: region.length,
      ...(region === registers && { map }),
    })),
  );
}

/** What one step showed: the value read, and everything that crossed the device's edge. */
export interface Observation {
  readonly result: number | undefined;
  readonly events: readonly TraceEvent[];
}

/** Takes one step. Throws where the device broke its contract. */
export function observeStep(bench: TestBench, step: Step): Observation {
  let result: number | undefined;
  const events = bench.record(() => {
    const bus = "space" in step ? (step.space === "mmio" ? bench.mmio : bench.ports) : undefined;
    switch (step.op) {
      case "read":
        result = bus?.read(step.address, step.width);
        break;
      case "write":
        bus?.write(step.address, step.width, step.value);
        break;
      case "advance":
        bench.clock.advance(step.ns);
        break;
      case "timer": {
        const next = bench.clock.nextDeadlineNs();
        if (Number.isFinite(next)) bench.clock.advanceTo(next);
        break;
      }
      case "memory":
        bench.memory.bytes.set(step.bytes, step.gpa);
        break;
    }
  });
  for (const event of events) {
    // Of the values that the device itself gave: a bus may have put several together.
    if (event.kind === "read") expectValue(event.value, event.width, event.region, event.offset);
  }
  return { result, events };
}

/** What one step showed to the outside, as text: values read, interrupts, DMA. */
export function runStep(bench: TestBench, step: Step): string {
  const { result, events } = observeStep(bench, step);
  const outside = events.filter(({ kind }) => kind !== "read" && kind !== "write");
  return JSON.stringify([result ?? null, outside]);
}

function expectValue(value: unknown, width: number, region: string, offset: number): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** (8 * width)) return;
  throw new Error(
    `${region}: a read of ${width} bytes at 0x${offset.toString(16)} gave ${String(value)}, expected an unsigned integer of that width`,
  );
}

/** The device as it is now in another bench: what a machine's snapshot does. */
export async function clone(device: DeviceUnderTest, bench: TestBench): Promise<TestBench> {
  const other = await benchFor(device, bench.clock.nowNs());
  other.memory.bytes.set(bench.memory.bytes);
  const functions = bench.pci.functions.map((fn) => fn.save());
  const state: unknown = bench.device.save?.();
  if (bench.device.save === undefined || other.device.restore === undefined) {
    throw new Error("the device has no `save` or no `restore`");
  }
  expectPlain(state, "state");
  const { device: restored, pci } = other;
  const shown = other.record(() => {
    restored.restore?.(JSON.parse(JSON.stringify(state)));
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

/** A saved state survives JSON and `structuredClone`: no `undefined`, NaN, maps or typed arrays in it. */
function expectPlain(value: unknown, path: string): void {
  if (value === null || typeof value === "string" || typeof value === "boolean") return;
  if (typeof value === "number" && Number.isFinite(value)) return;
  const prototype: unknown = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype !== Object.prototype && prototype !== Array.prototype) {
    throw new Error(`what 'save' gave does not survive JSON: ${path} is ${typeof value}`);
  }
  for (const [key, inner] of Object.entries(value as object)) expectPlain(inner, `${path}.${key}`);
}
