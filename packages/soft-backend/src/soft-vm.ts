import { InterruptControllers } from "@northbridge/devices-legacy";
import {
  type CpuModel,
  type DirtyLog,
  type MemorySlot,
  type MsiTarget,
  RestoreError,
  type Snapshottable,
  type Vcpu,
  type VirtualMachine,
  type VmOptions,
  x86_64V2,
} from "@northbridge/sdk";
import { type CpuCore, instantiateCore, MAX_GUEST_MEMORY } from "./cpu/core.ts";
import { coreImports, type ExitCounts } from "./cpu/core-imports.ts";
import { FEATURES } from "./cpu/layout.ts";
import { cpuModule } from "./cpu/wasm-module.ts";
import { CpuidTable } from "./cpuid/cpuid-table.ts";
import { assertClaimsMet, featuresOf, unmetClaims } from "./cpuid/feature-claims.ts";
import { ApicBus } from "./lapic/apic-bus.ts";
import { SlotTable } from "./memory/slot-table.ts";
import { Scheduler } from "./scheduler/scheduler.ts";
import { DEFAULT_TSC_KHZ } from "./scheduler/time-stamp-counter.ts";
import { SoftProcessor } from "./vcpu/soft-processor.ts";
import { SoftVcpu } from "./vcpu/soft-vcpu.ts";

/** Reserved beside RAM for firmware and option ROMs; untouched, it costs address space only. */
const ROM_BYTES = 16 * 2 ** 20;

const noExits = (): ExitCounts => ({
  portReads: 0,
  portWrites: 0,
  mmioReads: 0,
  mmioWrites: 0,
  lapicAccesses: 0,
  msrReads: 0,
  msrWrites: 0,
  tscReads: 0,
  cpuids: 0,
  interrupts: 0,
});

/** One guest on the software CPU. */
export class SoftVm implements VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  readonly msi: MsiTarget;
  readonly irqchip: Snapshottable<unknown>;
  readonly schedule: Snapshottable<unknown>;
  readonly dirtyLog: DirtyLog;
  readonly #slots: SlotTable;
  readonly #controllers: InterruptControllers;
  readonly #scheduler: Scheduler;
  readonly #processors: readonly SoftProcessor[];
  readonly #exits: ExitCounts;
  readonly #core: CpuCore;
  readonly #cpuid: CpuidTable;
  #cpuModel: CpuModel;

  private constructor(parts: {
    readonly core: CpuCore;
    readonly slots: SlotTable;
    readonly controllers: InterruptControllers;
    readonly scheduler: Scheduler;
    readonly processors: readonly SoftProcessor[];
    readonly exits: ExitCounts;
    readonly apics: ApicBus;
    readonly cpuid: CpuidTable;
    readonly model: CpuModel;
  }) {
    const { core, scheduler, processors, controllers, apics } = parts;
    this.#slots = parts.slots;
    this.#controllers = controllers;
    this.#scheduler = scheduler;
    this.#processors = processors;
    this.#exits = parts.exits;
    this.vcpus = processors.map((processor) => new SoftVcpu({ core, processor, scheduler }));
    this.#core = core;
    this.#cpuid = parts.cpuid;
    this.#cpuModel = parts.model;
    this.schedule = scheduler;
    this.dirtyLog = parts.slots;
    this.msi = {
      signal: (address, data) => {
        apics.message(address, data);
      },
    };
    this.irqchip = {
      save: () => controllers.save(),
      restore: (state) => {
        controllers.restore(state);
        for (const processor of processors) processor.refreshInterrupt();
      },
    };
  }

  /** Reserves the guest's memory and wires processors, controllers and scheduler. */
  static async create(options: VmOptions): Promise<SoftVm> {
    const { clock, ports, mmio } = options;
    const exits = noExits();
    const apics = new ApicBus();
    const chosen = options.cpuModel ?? x86_64V2;
    assertClaimsMet(chosen);
    const { tscKhz = DEFAULT_TSC_KHZ } = chosen;
    const model = { ...chosen, tscKhz };
    const cpuid = new CpuidTable(model, options.vcpus);
    const processors: SoftProcessor[] = [];
    const controllers = new InterruptControllers({
      deliver: ({ destination, destinationMode, deliveryMode, vector, trigger }) => {
        apics.deliver(
          destination,
          destinationMode === "logical",
          deliveryMode,
          vector,
          trigger === "level",
          false,
        );
      },
      picOutput: (level) => {
        for (const processor of processors) {
          if (level) processor.lapic.localEdge(0);
          processor.refreshInterrupt();
        }
      },
    });
    /** What the imports reach: complete before the first instruction. */
    const parts: { core?: CpuCore; scheduler?: Scheduler } = {};
    const capacity = Math.min(
      options.memoryBytes + ROM_BYTES,
      Math.max(options.memoryBytes, MAX_GUEST_MEMORY),
    );
    const core = await instantiateCore(
      await cpuModule(),
      capacity,
      coreImports({
        core: () => parts.core as CpuCore,
        current: () => parts.scheduler?.running as SoftProcessor,
        irqchip: controllers,
        cpuid,
        ports,
        mmio,
        exits,
      }),
    );
    parts.core = core;
    core.words[FEATURES >> 2] = featuresOf(model);
    for (let index = 0; index < options.vcpus; index++) {
      processors.push(
        new SoftProcessor({
          index,
          core,
          clock,
          apics,
          picOutput: () => controllers.pic.intr,
          endOfInterrupt: (vector) => {
            controllers.ioapic.eoi(vector);
          },
          wake: () => parts.scheduler?.wake(),
        }),
      );
    }
    for (const { tsc } of processors) tsc.setRate(tscKhz);
    const scheduler = new Scheduler({ processors, clock });
    parts.scheduler = scheduler;
    const slots = new SlotTable({ core, capacity });
    return new SoftVm({ core, slots, controllers, scheduler, processors, exits, apics, cpuid, model });
  }

  get cpuModel(): CpuModel {
    return this.#cpuModel;
  }

  setCpuModel(model: CpuModel): void {
    const unmet = unmetClaims(model);
    if (unmet.length > 0)
      throw new RestoreError("cpu", `${model.name} claims what the software CPU lacks: ${unmet.join(", ")}`);
    const { tscKhz = DEFAULT_TSC_KHZ } = model;
    this.#cpuModel = { ...model, tscKhz };
    this.#cpuid.show(this.#cpuModel);
    this.#core.words[FEATURES >> 2] = featuresOf(model);
    for (const { tsc } of this.#processors) tsc.setRate(tscKhz);
  }

  addMemory(slot: {
    readonly name: string;
    readonly gpa: number;
    readonly length: number;
    readonly readOnly?: boolean;
  }): MemorySlot {
    return this.#slots.add(slot);
  }

  memoryWritten(gpa: number, length: number): void {
    this.#slots.written(gpa, length);
  }

  setIrq(gsi: number, level: boolean): void {
    this.#controllers.setIrq(gsi, level);
  }

  stats(): Readonly<Record<string, number>> {
    return {
      instructions: this.#scheduler.executed,
      ...this.#exits,
      ...this.#scheduler.counts,
      refusedMsrs: this.#processors.reduce((sum, { msrs }) => sum + msrs.refused, 0),
    };
  }

  close(): Promise<void> {
    this.#scheduler.close();
    return Promise.resolve();
  }
}
