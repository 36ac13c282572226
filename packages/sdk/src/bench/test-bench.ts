import {
  type BusAccess,
  type Device,
  type DeviceContext,
  type DeviceEntry,
  type IoRegion,
  NorthbridgeError,
} from "@northbridge/core/contracts";
import { PciBus } from "../pci/pci-bus.ts";
import { describeAccess } from "../registers/describe-access.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import { type RegisterPorts, registerPorts } from "../registers/register-access.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import { FakeMachine, type FakePower } from "../testing/fake-machine.ts";
import { BenchMemory } from "./bench-memory.ts";
import { BenchPciBus } from "./bench-pci.ts";
import { InterruptProbe } from "./interrupt-probe.ts";
import { type TraceEvent, TracedHandler, TraceRecorder } from "./trace.ts";

/** What a bench has around its device. */
export interface TestBenchOptions<R extends RegisterSpecs> {
  /** The device's registers: gives `bench.regs` its types and traces their names. */
  readonly registers?: RegisterMap<R>;
  /** Name of the region that holds them. @defaultValue the device's first */
  readonly region?: string;
  /** @defaultValue 64 KiB */
  readonly memoryBytes?: number;
  /** @defaultValue one at 0 */
  readonly clock?: FakeClock;
  /** Provides what the device asks its machine for: consoles, disks, links. */
  readonly prepare?: (machine: FakeMachine) => void;
}

/** One device, and around it everything that a machine has but a processor. See {@link testBench}. */
export class TestBench<R extends RegisterSpecs = RegisterSpecs> {
  readonly #trace = new TraceRecorder();
  readonly #registers: RegisterMap<R> | undefined;
  readonly #region: string | undefined;
  readonly machine: FakeMachine;
  readonly memory: BenchMemory;
  readonly interrupts: InterruptProbe = new InterruptProbe(this.#trace);
  readonly pci: BenchPciBus;
  #device: Device = {};
  #ports: { readonly base: number; readonly regs: RegisterPorts<R> } | undefined;

  constructor(options: TestBenchOptions<R>) {
    this.#registers = options.registers;
    this.#region = options.region;
    const clock = options.clock ?? new FakeClock();
    this.memory = new BenchMemory(options.memoryBytes ?? 64 * 1024, this.#trace, clock);
    this.machine = new FakeMachine({ memory: this.memory, clock });
    this.pci = new BenchPciBus({ mmio: this.machine.mmio, ports: this.machine.portBus });
    this.machine.provide(PciBus, this.pci);
    options.prepare?.(this.machine);
  }

  /** For `testBench`. */
  async setUp(entry: DeviceEntry): Promise<this> {
    this.#device = await this.machine.add(entry, (ctx) => this.#watched(ctx));
    return this;
  }

  get device(): Device {
    return this.#device;
  }

  get clock(): FakeClock {
    return this.machine.clock;
  }

  get power(): FakePower {
    return this.machine.power;
  }

  get mmio(): BusAccess {
    return this.machine.mmio;
  }

  get ports(): BusAccess {
    return this.machine.portBus;
  }

  /** Typed access to the registers, wherever the device maps them now. Throws where it does not. */
  get regs(): RegisterPorts<R> {
    const map = this.#registers;
    if (map === undefined) throw new NorthbridgeError("NB_CONFIG", "testBench: no `registers` were given");
    const { bus, region } = this.registerRegion();
    if (this.#ports?.base !== region.base) {
      this.#ports = { base: region.base, regs: registerPorts(map, bus, region.base) };
    }
    return this.#ports.regs;
  }

  /** The region that holds the registers, and the bus that it is on. */
  registerRegion(): { readonly bus: BusAccess; readonly region: IoRegion } {
    for (const bus of [this.machine.mmio, this.machine.portBus]) {
      const region = bus.regions.find(({ name }) => this.#region === undefined || name === this.#region);
      if (region !== undefined) return { bus, region };
    }
    throw new NorthbridgeError(
      "NB_CONFIG",
      `testBench: the device maps no region ${this.#region ?? "at all"}`,
    );
  }

  /** Runs `action` once guest time reaches `timeNs`: the way to schedule a fault. */
  at(timeNs: number, action: () => void): void {
    this.clock.createTimer(action).arm(timeNs);
  }

  /** Everything that crosses the device's edge while `when` runs. */
  record(when: () => void): readonly TraceEvent[] {
    return this.#trace.during(when);
  }

  /** The same as lines of text, with register and field names. */
  trace(when: () => void): readonly string[] {
    return this.record(when).map((event) => this.#describe(event));
  }

  /** Lets promises settle that have nothing to wait for: requests to fake host ends. */
  async settle(): Promise<void> {
    for (let i = 0; i < 256; i++) await Promise.resolve();
  }

  /** Runs what the device registered with `onClose`. */
  close(): Promise<void> {
    return this.machine.close();
  }

  #watched(ctx: DeviceContext): DeviceContext {
    return {
      ...ctx,
      msi: this.interrupts,
      irq: (gsi) => this.interrupts.line(gsi),
      mapMmio: (region, handler) =>
        ctx.mapMmio(region, new TracedHandler(region.name ?? ctx.id, handler, this.#trace)),
      mapPorts: (region, handler) =>
        ctx.mapPorts(region, new TracedHandler(region.name ?? ctx.id, handler, this.#trace)),
    };
  }

  #describe(event: TraceEvent): string {
    switch (event.kind) {
      case "read":
      case "write": {
        const { kind, region, offset, width, value } = event;
        const isRegisters = this.#registers !== undefined && region === this.registerRegion().region.name;
        return isRegisters
          ? describeAccess(this.#registers, kind, offset, width, value)
          : `${kind} ${region}+0x${offset.toString(16)} = 0x${value.toString(16)} (${width} bytes)`;
      }
      case "irq":
        return `irq ${event.gsi} ${event.level ? "up" : "down"}`;
      case "msi":
        return `msi 0x${event.address.toString(16)} = 0x${event.data.toString(16)}`;
      case "dma":
        return `dma 0x${event.gpa.toString(16)} ${event.length} bytes`;
    }
  }
}

/**
 * Sets one device up without a processor: buses, guest RAM, an interrupt probe, a clock that the test moves, a PCI bus.
 *
 * @example
 * ```ts
 * const bench = await testBench(thermometer({ base: 0xfe00_0000, gsi: 5 }), { registers: map });
 * bench.regs.CTRL.write({ ENABLE: 1, IRQ: 1 });
 * bench.clock.advance(1e9);
 * expect(bench.interrupts.level(5)).toBe(true);
 * ```
 */
export function testBench<R extends RegisterSpecs = RegisterSpecs>(
  entry: DeviceEntry,
  options: TestBenchOptions<R> = {},
): Promise<TestBench<R>> {
  return new TestBench<R>(options).setUp(entry);
}
