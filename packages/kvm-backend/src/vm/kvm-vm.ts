import { close, ioctl, ioctlBuffer, RootedBuffer, SharedMapping } from "@northbridge/linux";
import type {
  BusAccess,
  BusShortcuts,
  CpuModel,
  DirtyLog,
  MemorySlot,
  MsiTarget,
  Snapshottable,
  Vcpu,
  VirtualMachine,
  VmOptions,
} from "@northbridge/sdk";
import { setCpuid, supportedCpuid, withoutLocalApic } from "../abi/cpuid.ts";
import { Capability, IDENTITY_MAP_ADDRESS, Request, SizeOf, TSS_ADDRESS } from "../abi/spec.ts";
import type { ExitCounts } from "../vcpu/accesses.ts";
import type { EmulationFailureHook } from "../vcpu/emulation-failure.ts";
import { KvmVcpu } from "../vcpu/kvm-vcpu.ts";
import { findSavableMsrs, MsrAccess } from "../vcpu/msr-set.ts";
import { StateAccess } from "../vcpu/vcpu-state.ts";
import { VcpuThread } from "../vcpu/vcpu-thread.ts";
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

/** One guest under KVM. */
export class KvmVm implements VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  readonly cpuModel: CpuModel;
  readonly msi: MsiTarget;
  readonly irqchip: Snapshottable<unknown>;
  /** Time that the kernel keeps. */
  readonly schedule: Snapshottable<unknown>;
  readonly dirtyLog: DirtyLog;
  readonly shortcuts: { readonly ports: BusShortcuts; readonly mmio: BusShortcuts };
  readonly #fd: number;
  readonly #memory: MemorySlots;
  readonly #irqchip: Controllers;
  readonly #counts: ExitCounts;
  readonly #processors: readonly KvmVcpu[];
  readonly #watch: HaltWatch;
  readonly #clock: ClockDriver;
  readonly #doorbells: Doorbells;
  readonly #posted: PostedWrites;
  #isClosed = false;

  private constructor(parts: {
    readonly fd: number;
    readonly memory: MemorySlots;
    readonly irqchip: Controllers;
    readonly counts: ExitCounts;
    readonly processors: readonly KvmVcpu[];
    readonly watch: HaltWatch;
    readonly clock: ClockDriver;
    readonly doorbells: Doorbells;
    readonly posted: PostedWrites;
    readonly cpuModel: CpuModel;
    readonly clocks: KernelClocks;
  }) {
    this.#fd = parts.fd;
    this.#memory = parts.memory;
    this.#irqchip = parts.irqchip;
    this.#counts = parts.counts;
    this.#processors = parts.processors;
    this.#watch = parts.watch;
    this.#clock = parts.clock;
    this.#doorbells = parts.doorbells;
    this.#posted = parts.posted;
    this.shortcuts = { ports: this.#shortcutsOf("ports"), mmio: this.#shortcutsOf("mmio") };
    this.vcpus = parts.processors;
    this.cpuModel = parts.cpuModel;
    this.msi = parts.irqchip;
    this.irqchip = parts.irqchip;
    this.schedule = parts.clocks;
    this.dirtyLog = parts.memory;
  }

  /** @param kvm an open `/dev/kvm`, which stays the caller's. Throws `SystemCallError` or `NB_BACKEND`. */
  static async create(kvm: number, options: VmOptions, how: KvmOptions): Promise<KvmVm> {
    // They start while the kernel makes the machine.
    const threads = Array.from({ length: options.vcpus }, (_, index) => new VcpuThread(`vcpu ${index}`));
    const processors: KvmVcpu[] = [];
    let fd: number | undefined;
    try {
      fd = ioctl(kvm, Request.KVM_CREATE_VM, 0, "KVM_CREATE_VM");
      const vm = KvmVm.#assemble({ kvm, fd, threads, processors, options, how });
      await Promise.all(processors.map((vcpu) => vcpu.ready()));
      return vm;
    } catch (error) {
      await Promise.all(threads.map((thread) => thread.stop()));
      await Promise.all(processors.map((vcpu) => vcpu.close()));
      if (fd !== undefined) close(fd);
      throw error;
    }
  }

  static #assemble(parts: {
    readonly kvm: number;
    readonly fd: number;
    readonly threads: readonly VcpuThread[];
    /** Filled one by one: what is in it holds a descriptor and a mapping. */
    readonly processors: KvmVcpu[];
    readonly options: VmOptions;
    readonly how: KvmOptions;
  }): KvmVm {
    const { kvm, fd, threads, processors, options, how } = parts;
    ioctl(fd, Request.KVM_SET_TSS_ADDR, TSS_ADDRESS, "KVM_SET_TSS_ADDR");
    const map = new RootedBuffer(8);
    map.view.setBigUint64(0, BigInt(IDENTITY_MAP_ADDRESS), true);
    ioctlBuffer(fd, Request.KVM_SET_IDENTITY_MAP_ADDR, map, "KVM_SET_IDENTITY_MAP_ADDR");
    const irqchip = makeControllers(fd, how, { ...options, asserted: () => processors[0]?.poke() });
    const { outside, hasLocalApics } = irqchip;
    if (how.kernelPit === true)
      ioctlBuffer(fd, Request.KVM_CREATE_PIT2, new RootedBuffer(SizeOf.kvm_pit_config), "KVM_CREATE_PIT2");
    const clocks = new KernelClocks(fd, how.kernelPit === true);
    const limit = ioctl(kvm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_NR_MEMSLOTS, "memory slots");
    const rings = how.dirtyRing === undefined ? undefined : new DirtyRings(fd, how.dirtyRing);
    const memory = new MemorySlots({
      vm: fd,
      limit,
      rings,
      flush: () => {
        for (const vcpu of processors) vcpu.nudge();
      },
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
      processors.find(({ isPending }) => isPending)?.abort(error);
    };
    const posted = new PostedWrites(fd, options, failed);
    const drainPosted = (): void => {
      posted.drain();
    };
    const doorbells = new Doorbells(fd, drainPosted, failed);
    const chosen = options.cpuModel ?? { name: "host", leaves: supportedCpuid(kvm) };
    const cpuModel = hasLocalApics ? chosen : withoutLocalApic(chosen);
    const xsaveBytes = ioctl(fd, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_XSAVE2, "KVM_CAP_XSAVE2");
    const runBytes = ioctl(kvm, Request.KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    threads.forEach((thread, index) => {
      const vcpu = ioctl(fd, Request.KVM_CREATE_VCPU, index, `KVM_CREATE_VCPU of vCPU ${index}`);
      let mapping: SharedMapping | undefined;
      try {
        setCpuid(vcpu, index, cpuModel, options.vcpus);
        const msrs = new MsrAccess(vcpu);
        const state = new StateAccess({
          fd: vcpu,
          index,
          msrs,
          savable: findSavableMsrs(kvm, msrs),
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
    return new KvmVm({
      fd,
      memory,
      irqchip,
      counts,
      processors,
      watch,
      clock,
      doorbells,
      posted,
      cpuModel,
      clocks,
    });
  }

  addMemory(slot: {
    readonly name: string;
    readonly gpa: number;
    readonly length: number;
    readonly readOnly?: boolean;
  }): MemorySlot {
    return this.#memory.add(slot);
  }

  memoryWritten(gpa: number, length: number): void {
    this.#memory.written(gpa, length);
  }

  setIrq(gsi: number, level: boolean): void {
    this.#irqchip.setIrq(gsi, level);
  }

  stats(): Readonly<Record<string, number>> {
    return {
      ...this.#counts,
      doorbells: this.#doorbells.rung,
      posted: this.#posted.taken,
      untakenMessages: this.#irqchip.untakenMessages,
      answeredOnVcpus: this.#processors.reduce((sum, { answered }) => sum + answered, 0),
    };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all(this.#processors.map((vcpu) => vcpu.close()));
    this.#watch.close();
    this.#clock.set(false);
    this.#irqchip.close();
    this.#doorbells.close();
    this.#posted.close();
    this.#memory.close();
    close(this.#fd);
  }

  #shortcutsOf(space: "ports" | "mmio"): BusShortcuts {
    return {
      doorbell: (address, bell, ring) => this.#doorbells.hang({ ...bell, space, address }, ring),
      posted: (address, length) => this.#posted.collect(space, address, length),
      onVcpus: (base, length, { module, shared }) => {
        const gate = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
        const isMapped = new Int32Array(gate).fill(1);
        for (const vcpu of this.#processors) vcpu.addRange({ space, base, length, module, shared, gate });
        return () => void Atomics.store(isMapped, 0, 0);
      },
    };
  }
}

function makeControllers(
  vm: number,
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
