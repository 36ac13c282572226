import { close, ioctl, ioctlBuffer, RootedBuffer, SharedMapping } from "@northbridge/linux";
import type {
  CpuModel,
  DirtyLog,
  MemorySlot,
  MsiTarget,
  Snapshottable,
  Vcpu,
  VirtualMachine,
  VmOptions,
} from "@northbridge/sdk";
import { setCpuid, supportedCpuid } from "../abi/cpuid.ts";
import { Capability, IDENTITY_MAP_ADDRESS, Request, SizeOf, TSS_ADDRESS } from "../abi/spec.ts";
import type { ExitCounts } from "../vcpu/accesses.ts";
import type { EmulationFailureHook } from "../vcpu/emulation-failure.ts";
import { KvmVcpu } from "../vcpu/kvm-vcpu.ts";
import { findSavableMsrs, MsrAccess } from "../vcpu/msr-set.ts";
import { StateAccess } from "../vcpu/vcpu-state.ts";
import { VcpuThread } from "../vcpu/vcpu-thread.ts";
import { ClockDriver } from "./clock-driver.ts";
import { Doorbells } from "./doorbells.ts";
import { HaltWatch } from "./halt-watch.ts";
import { Irqchip } from "./irqchip.ts";
import { MemorySlots } from "./memory-slots.ts";

/** How this backend makes machines. */
export interface KvmOptions {
  /** Off by default. */
  readonly onEmulationFailure?: EmulationFailureHook | undefined;
  /**
   * Whether the kernel's i8254 answers the PIT's ports instead of the machine's. Its state is not saved.
   * @defaultValue false
   */
  readonly kernelPit?: boolean | undefined;
}

/** One guest under KVM. */
export class KvmVm implements VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  readonly cpuModel: CpuModel;
  readonly msi: MsiTarget;
  readonly irqchip: Snapshottable<unknown>;
  readonly dirtyLog: DirtyLog;
  readonly doorbell: NonNullable<VirtualMachine["doorbell"]>;
  readonly #fd: number;
  readonly #memory: MemorySlots;
  readonly #irqchip: Irqchip;
  readonly #counts: ExitCounts;
  readonly #processors: readonly KvmVcpu[];
  readonly #watch: HaltWatch;
  readonly #clock: ClockDriver;
  readonly #doorbells: Doorbells;
  #isClosed = false;

  private constructor(parts: {
    readonly fd: number;
    readonly memory: MemorySlots;
    readonly irqchip: Irqchip;
    readonly counts: ExitCounts;
    readonly processors: readonly KvmVcpu[];
    readonly watch: HaltWatch;
    readonly clock: ClockDriver;
    readonly doorbells: Doorbells;
    readonly cpuModel: CpuModel;
  }) {
    this.#fd = parts.fd;
    this.#memory = parts.memory;
    this.#irqchip = parts.irqchip;
    this.#counts = parts.counts;
    this.#processors = parts.processors;
    this.#watch = parts.watch;
    this.#clock = parts.clock;
    this.#doorbells = parts.doorbells;
    this.doorbell = (gpa, bell, ring) => parts.doorbells.hang(gpa, bell, ring);
    this.vcpus = parts.processors;
    this.cpuModel = parts.cpuModel;
    this.msi = parts.irqchip;
    this.irqchip = parts.irqchip;
    this.dirtyLog = parts.memory;
  }

  /** @param kvm an open `/dev/kvm`, which stays the caller's. Throws `SystemCallError` or `NB_BACKEND`. */
  static async create(kvm: number, options: VmOptions, how: KvmOptions): Promise<KvmVm> {
    const fd = ioctl(kvm, Request.KVM_CREATE_VM, 0, "KVM_CREATE_VM");
    const processors: KvmVcpu[] = [];
    try {
      return await KvmVm.#assemble({ kvm, fd, processors, options, how });
    } catch (error) {
      await Promise.all(processors.map((vcpu) => vcpu.close()));
      close(fd);
      throw error;
    }
  }

  static async #assemble(parts: {
    readonly kvm: number;
    readonly fd: number;
    /** Filled one by one: what is in it holds a thread and a descriptor. */
    readonly processors: KvmVcpu[];
    readonly options: VmOptions;
    readonly how: KvmOptions;
  }): Promise<KvmVm> {
    const { kvm, fd, processors, options, how } = parts;
    ioctl(fd, Request.KVM_SET_TSS_ADDR, TSS_ADDRESS, "KVM_SET_TSS_ADDR");
    const map = new RootedBuffer(8);
    map.view.setBigUint64(0, BigInt(IDENTITY_MAP_ADDRESS), true);
    ioctlBuffer(fd, Request.KVM_SET_IDENTITY_MAP_ADDR, map, "KVM_SET_IDENTITY_MAP_ADDR");
    const irqchip = new Irqchip(fd);
    if (how.kernelPit === true)
      ioctlBuffer(fd, Request.KVM_CREATE_PIT2, new RootedBuffer(SizeOf.kvm_pit_config), "KVM_CREATE_PIT2");
    const limit = ioctl(kvm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_NR_MEMSLOTS, "memory slots");
    const memory = new MemorySlots({ vm: fd, limit });
    const counts: ExitCounts = {
      portReads: 0,
      portWrites: 0,
      mmioReads: 0,
      mmioWrites: 0,
      emulationFailures: 0,
      kicks: 0,
    };
    const watch = new HaltWatch(processors);
    const clock = new ClockDriver(options.clock);
    const doorbells = new Doorbells(fd, (error) => {
      processors.find(({ isPending }) => isPending)?.abort(error);
    });
    const cpuModel = options.cpuModel ?? { name: "host", leaves: supportedCpuid(kvm) };
    const runBytes = ioctl(kvm, Request.KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    for (let index = 0; index < options.vcpus; index++) {
      const vcpu = ioctl(fd, Request.KVM_CREATE_VCPU, index, `KVM_CREATE_VCPU of vCPU ${index}`);
      let mapping: SharedMapping | undefined;
      try {
        setCpuid(vcpu, index, cpuModel);
        const msrs = new MsrAccess(vcpu);
        const state = new StateAccess({ fd: vcpu, index, msrs, savable: findSavableMsrs(kvm, msrs) });
        const powerOn = state.save();
        mapping = new SharedMapping(vcpu, runBytes, `kvm_run of vCPU ${index}`);
        const thread = await VcpuThread.start(vcpu, `vcpu ${index}`);
        processors.push(
          new KvmVcpu({
            index,
            fd: vcpu,
            thread,
            mapping,
            state,
            powerOn,
            ports: options.ports,
            mmio: options.mmio,
            counts,
            peek: (gpa, length) => memory.peek(gpa, length),
            onEmulationFailure: how.onEmulationFailure,
            pendingChanged: () => {
              watch.pendingChanged();
              const isRunning = processors.some(({ isPending }) => isPending);
              clock.set(isRunning);
              if (!isRunning) doorbells.drain();
            },
          }),
        );
      } catch (error) {
        mapping?.unmap();
        close(vcpu);
        throw error;
      }
    }
    return new KvmVm({ fd, memory, irqchip, counts, processors, watch, clock, doorbells, cpuModel });
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
    return { ...this.#counts, doorbells: this.#doorbells.rung };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all(this.#processors.map((vcpu) => vcpu.close()));
    this.#watch.close();
    this.#clock.set(false);
    this.#doorbells.close();
    this.#memory.close();
    close(this.#fd);
  }
}
