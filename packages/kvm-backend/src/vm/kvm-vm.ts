import {
  close,
  ioctl,
  ioctlBuffer,
  OwnedDescriptor,
  RootedBuffer,
  SharedMapping,
  SystemCallError,
} from "@northbridge/linux";
import {
  type BusAccess,
  type BusShortcuts,
  type CpuModel,
  type DirtyLog,
  type MemorySlot,
  type MsiTarget,
  NorthbridgeError,
  RestoreError,
  type Snapshottable,
  type Vcpu,
  type VirtualMachine,
  type VmOptions,
} from "@northbridge/sdk";
import { setCpuid, supportedCpuid, withoutLocalApic } from "../abi/cpuid.ts";
import { Capability, IDENTITY_MAP_ADDRESS, PitFlag, Request, SizeOf, TSS_ADDRESS } from "../abi/spec.ts";
import { canScaleTsc, setTscRate, tscRate } from "../abi/tsc-rate.ts";
import type { ExitCounts } from "../vcpu/accesses.ts";
import type { EmulationFailureHook } from "../vcpu/emulation-failure.ts";
import { KvmVcpu } from "../vcpu/kvm-vcpu.ts";
import { listMsrs, MsrAccess } from "../vcpu/msr-set.ts";
import { StateAccess } from "../vcpu/vcpu-state.ts";
import { VcpuThread } from "../vcpu/vcpu-thread.ts";
import { Cleanup, settled } from "./cleanup.ts";
import { ClockDriver } from "./clock-driver.ts";
import { DirtyRings } from "./dirty-ring.ts";
import { Doorbells } from "./doorbells.ts";
import { HaltWatch } from "./halt-watch.ts";
import type { Controllers } from "./controllers.ts";
import { Irqchip } from "./irqchip.ts";
import { KernelClocks } from "./kernel-clocks.ts";
import { MemorySlots } from "./memory-slots.ts";
import { PicOnly } from "./pic-only.ts";
import { PostedWrites } from "./posted-writes.ts";
import { SplitIrqchip } from "./split-irqchip.ts";

/** How this backend makes machines. */
export interface KvmOptions {
  /** Off by default. */
  readonly onEmulationFailure?: EmulationFailureHook | undefined;
  /**
   * Whether the kernel's i8254 answers the PIT's ports instead of the machine's.
   * @defaultValue false
   */
  readonly kernelPit?: boolean | undefined;
  /**
   * `split`: the 8259 pair and the I/O APIC are on the machine thread, the local APICs in the kernel. `none`: only the
   * 8259 pair, on the machine thread, and one processor without a local APIC.
   * @defaultValue `"kernel"`
   */
  readonly irqchip?: "kernel" | "split" | "none" | undefined;
  /**
   * Entries of the ring that each vCPU logs pages in, a power of two. Absent: the kernel keeps a bitmap of each memory
   * slot. Rings cost what is written, bitmaps what memory there is.
   */
  readonly dirtyRing?: number | undefined;
}

interface VmParts {
  readonly memory: MemorySlots;
  readonly irqchip: Controllers;
  readonly counts: ExitCounts;
  readonly processors: readonly KvmVcpu[];
  readonly doorbells: Doorbells;
  readonly posted: PostedWrites;
  readonly cpuModel: CpuModel;
  readonly hasLocalApics: boolean;
  readonly canScaleTsc: boolean;
  readonly clocks: KernelClocks;
}

/** One guest under KVM. */
export class KvmVm implements VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  readonly msi: MsiTarget;
  readonly irqchip: Snapshottable<unknown>;
  /** Time that the kernel keeps. */
  readonly schedule: Snapshottable<unknown>;
  readonly dirtyLog: DirtyLog;
  readonly shortcuts: { readonly ports: BusShortcuts; readonly mmio: BusShortcuts };
  readonly #parts: VmParts;
  readonly #held: Cleanup;
  #cpuModel: CpuModel;

  private constructor(parts: VmParts, held: Cleanup) {
    this.#parts = parts;
    this.#held = held;
    this.shortcuts = { ports: this.#shortcutsOf("ports"), mmio: this.#shortcutsOf("mmio") };
    this.vcpus = parts.processors;
    this.#cpuModel = withRate(parts.cpuModel, parts.processors);
    this.msi = parts.irqchip;
    this.irqchip = parts.irqchip;
    this.schedule = parts.clocks;
    this.dirtyLog = parts.memory;
  }

  /** @param kvm an open `/dev/kvm`, which stays the caller's. Throws `SystemCallError` or `NB_BACKEND`. */
  static async create(kvm: number, options: VmOptions, how: KvmOptions): Promise<KvmVm> {
    const held = new Cleanup();
    try {
      const parts = KvmVm.#assemble({ kvm, options, how, held });
      await settled(parts.processors.map((vcpu) => vcpu.ready()));
      return new KvmVm(parts, held);
    } catch (error) {
      await held.run().catch(() => undefined); // what failed first is told
      throw error;
    }
  }

  static #assemble(given: {
    readonly kvm: number;
    readonly options: VmOptions;
    readonly how: KvmOptions;
    /** Gets all that is acquired. */
    readonly held: Cleanup;
  }): VmParts {
    const { kvm, options, how, held } = given;
    const processors: KvmVcpu[] = [];
    const threads: VcpuThread[] = [];
    // They start while the kernel makes the machine.
    held.add(() => settled(threads.map((thread) => thread.stop())));
    const of = options.name === undefined ? "" : ` ${options.name}`;
    for (let index = 0; index < options.vcpus; index++) threads.push(new VcpuThread(`vcpu ${index}${of}`));
    const vm = new OwnedDescriptor(ioctl(kvm, Request.KVM_CREATE_VM, 0, "KVM_CREATE_VM"), "the machine's VM");
    held.add(() => {
      vm.close();
    });
    const { fd } = vm;
    ioctl(fd, Request.KVM_SET_TSS_ADDR, TSS_ADDRESS, "KVM_SET_TSS_ADDR");
    const map = new RootedBuffer(8);
    map.view.setBigUint64(0, BigInt(IDENTITY_MAP_ADDRESS), true);
    ioctlBuffer(fd, Request.KVM_SET_IDENTITY_MAP_ADDR, map, "KVM_SET_IDENTITY_MAP_ADDR");
    const irqchip = makeControllers(vm, how, { ...options, asserted: () => processors[0]?.poke() });
    held.add(() => {
      irqchip.close();
    });
    const { outside, hasLocalApics } = irqchip;
    if (how.kernelPit === true) createPit(fd);
    const clocks = new KernelClocks(vm, how.kernelPit === true);
    const limit = ioctl(kvm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_NR_MEMSLOTS, "memory slots");
    const rings = how.dirtyRing === undefined ? undefined : new DirtyRings(vm, how.dirtyRing);
    const memory = new MemorySlots({
      vm,
      limit,
      rings,
      flush: () => {
        for (const vcpu of processors) vcpu.nudge();
      },
    });
    held.add(() => {
      memory.close();
    });
    const counts: ExitCounts = {
      portReads: 0,
      portWrites: 0,
      mmioReads: 0,
      mmioWrites: 0,
      emulationFailures: 0,
      kicks: 0,
      dirtyRingFull: 0,
    };
    const watch = new HaltWatch(processors);
    const clock = new ClockDriver(options.clock);
    const failed = (error: Error): void => {
      // Where none is pending, the next run tells.
      (processors.find(({ isPending }) => isPending) ?? processors[0])?.abort(error);
    };
    const posted = new PostedWrites(vm, options, failed);
    const drainPosted = (): void => {
      posted.drain();
    };
    const doorbells = new Doorbells(vm, drainPosted, failed);
    held.add(() => {
      watch.close();
      clock.set(false);
      doorbells.close();
      posted.close();
    });
    held.add(() => settled(processors.map((vcpu) => vcpu.close())));
    const chosen = options.cpuModel ?? { name: "host", leaves: supportedCpuid(kvm) };
    const cpuModel = hasLocalApics ? chosen : withoutLocalApic(chosen);
    const canScale = canScaleTsc(fd);
    const listed = listMsrs(kvm);
    const xsaveBytes = ioctl(fd, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_XSAVE2, "KVM_CAP_XSAVE2");
    const guestDebug = ioctl(
      fd,
      Request.KVM_CHECK_EXTENSION,
      Capability.KVM_CAP_SET_GUEST_DEBUG2,
      "KVM_CAP_SET_GUEST_DEBUG2",
    );
    const runBytes = ioctl(kvm, Request.KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    threads.forEach((thread, index) => {
      const vcpu = ioctl(fd, Request.KVM_CREATE_VCPU, index, `KVM_CREATE_VCPU of vCPU ${index}`);
      let mapping: SharedMapping | undefined;
      try {
        const { tscKhz } = cpuModel;
        if (tscKhz !== undefined && !setTscRate(vcpu, tscKhz, canScale))
          throw new NorthbridgeError(
            "NB_BACKEND",
            `cpu.tscKhz: this KVM counts at ${tscRate(vcpu)} and at no other rate, found ${tscKhz}`,
          );
        setCpuid(vcpu, index, cpuModel, options.vcpus);
        const state = new StateAccess({
          fd: vcpu,
          index,
          msrs: new MsrAccess(vcpu),
          listed,
          xsaveBytes,
          hasLocalApic: hasLocalApics,
        });
        mapping = new SharedMapping(vcpu, runBytes, `kvm_run of vCPU ${index}`);
        const run = new DataView(mapping.buffer);
        if (index === 0) posted.attach(run);
        rings?.add(vcpu, index);
        processors.push(
          new KvmVcpu({
            index,
            fd: vcpu,
            thread,
            mapping,
            state,
            powerOn: state.save(),
            ports: outside?.ports ?? options.ports,
            mmio: outside?.mmio ?? options.mmio,
            controllers: outside,
            counts,
            peek: (gpa, length) => memory.peek(gpa, length),
            onEmulationFailure: how.onEmulationFailure,
            guestDebug,
            beforeExit: drainPosted,
            ringFull: () => memory.collectRings(),
            pendingChanged: () => {
              watch.pendingChanged();
              const isRunning = processors.some(({ isPending }) => isPending);
              clock.set(isRunning);
              posted.set(isRunning);
              if (!isRunning) doorbells.drain();
            },
          }),
        );
      } catch (error) {
        mapping?.unmap();
        close(vcpu);
        throw error;
      }
    });
    return {
      memory,
      irqchip,
      counts,
      processors,
      doorbells,
      posted,
      cpuModel,
      hasLocalApics,
      canScaleTsc: canScale,
      clocks,
    };
  }

  get cpuModel(): CpuModel {
    return this.#cpuModel;
  }

  setCpuModel(given: CpuModel): void {
    const { processors, hasLocalApics, canScaleTsc } = this.#parts;
    const model = hasLocalApics ? given : withoutLocalApic(given);
    const { tscKhz } = model;
    for (const vcpu of processors) {
      if (tscKhz !== undefined && !vcpu.setTscRate(tscKhz, canScaleTsc))
        throw new RestoreError(
          "cpu",
          `the saved guest's time-stamp counter counts at ${tscKhz} kHz, this KVM's at ${vcpu.tscKhz} and at no other rate: what began with cpu.tscKhz ${vcpu.tscKhz} can move here`,
        );
      try {
        vcpu.setCpuid(model, processors.length);
      } catch (error) {
        if (!(error instanceof SystemCallError)) throw error;
        throw new RestoreError("cpu", `KVM refuses what CPUID told the saved guest: ${error.message}`);
      }
    }
    this.#cpuModel = withRate(model, processors);
  }

  addMemory(slot: {
    readonly name: string;
    readonly gpa: number;
    readonly length: number;
    readonly readOnly?: boolean;
  }): MemorySlot {
    return this.#parts.memory.add(slot);
  }

  memoryWritten(gpa: number, length: number): void {
    this.#parts.memory.written(gpa, length);
  }

  setIrq(gsi: number, level: boolean): void {
    this.#parts.irqchip.setIrq(gsi, level);
  }

  stats(): Readonly<Record<string, number>> {
    return {
      ...this.#parts.counts,
      doorbells: this.#parts.doorbells.rung,
      posted: this.#parts.posted.taken,
      untakenMessages: this.#parts.irqchip.untakenMessages,
      answeredOnVcpus: this.#parts.processors.reduce((sum, { answered }) => sum + answered, 0),
    };
  }

  pause(): void {
    this.#parts.clocks.hold();
    for (const { time } of this.#parts.processors) time.holdTsc();
  }

  resume(): void {
    const { clocks, processors } = this.#parts;
    clocks.release();
    // The same for all: they agree.
    const lag = processors[0]?.time.tscLag() ?? 0n;
    for (const { time } of processors) time.releaseTsc(lag);
  }

  reset(): void {
    this.#parts.clocks.reset();
  }

  close(): Promise<void> {
    return this.#held.run();
  }

  #shortcutsOf(space: "ports" | "mmio"): BusShortcuts {
    return {
      doorbell: (address, bell, ring) => this.#parts.doorbells.hang({ ...bell, space, address }, ring),
      posted: (address, length) => this.#parts.posted.collect(space, address, length),
      onVcpus: (base, length, { module, shared }) => {
        const gate = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
        const isMapped = new Int32Array(gate).fill(1);
        for (const vcpu of this.#parts.processors)
          vcpu.addRange({ space, base, length, module, shared, gate });
        return () => void Atomics.store(isMapped, 0, 0);
      },
    };
  }
}

/** With the rate that the machine's counters have; KVM says 0 where it does not know it. */
function withRate(model: CpuModel, [first]: readonly KvmVcpu[]): CpuModel {
  const { tscKhz: _, ...rest } = model;
  const tscKhz = first?.tscKhz ?? 0;
  return tscKhz === 0 ? rest : { ...rest, tscKhz };
}

/** Throws `NB_BACKEND`. */
function createPit(fd: number): void {
  if (ioctl(fd, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_PIT2, "KVM_CAP_PIT2") <= 0)
    throw new NorthbridgeError("NB_BACKEND", "kernelPit: this KVM has no i8254");
  const config = new RootedBuffer(SizeOf.kvm_pit_config);
  config.view.setUint32(0, PitFlag.SPEAKER_DUMMY, true);
  ioctlBuffer(fd, Request.KVM_CREATE_PIT2, config, "KVM_CREATE_PIT2");
}

function makeControllers(
  vm: OwnedDescriptor,
  { irqchip = "kernel" }: KvmOptions,
  deps: { readonly ports: BusAccess; readonly mmio: BusAccess; readonly asserted: () => void },
): Controllers {
  switch (irqchip) {
    case "kernel":
      return new Irqchip(vm);
    case "split":
      return new SplitIrqchip(vm, deps);
    case "none":
      return new PicOnly(deps);
  }
}
