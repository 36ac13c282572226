import type { BusAccess, Doorbell, Unmap, VcpuHandlerSource } from "./io.ts";
import type { DrivenClock } from "./clock.ts";
import type { MemorySlot } from "./memory.ts";
import type { MsiTarget } from "./interrupt.ts";
import type { Snapshottable } from "./lifecycle.ts";
import type { VcpuState } from "./vcpu-state.ts";

/** What a backend is. */
export interface Hypervisor {
  /** `soft`, `kvm`. */
  readonly name: string;
  /** What it can give one machine. Unlimited where absent. */
  readonly limits?: { readonly memoryMib?: number; readonly vcpus?: number };
  /** Processors that a guest may have, the default one first. Absent: a config cannot choose. */
  cpuModels?(): readonly CpuModel[];
  /**
   * What a model claims and the backend lacks, as people call it; empty where it can do it all. Absent: it can do what
   * its default model claims.
   */
  unmetClaims?(model: CpuModel): readonly string[];
  createVm(options: VmOptions): Promise<VirtualMachine>;
}

export interface VmOptions {
  /** The machine's, for people: what it takes of the host has it in its name. */
  readonly name?: string | undefined;
  readonly vcpus: number;
  readonly clock: DrivenClock;
  /**
   * Where port and MMIO accesses of the guest go. A backend calls these on the machine thread, one at a time,
   * with the vCPU stopped inside the access (docs/adr/0002).
   */
  readonly ports: BusAccess;
  readonly mmio: BusAccess;
  /** Total guest RAM in bytes that `addMemory` will be asked for: a backend that must reserve, reserves this. */
  readonly memoryBytes: number;
  readonly cpuModel?: CpuModel | undefined;
}

/** What CPUID tells the guest. Leaves not listed answer as the hardware does for leaves beyond its limit. */
export interface CpuModel {
  readonly name: string;
  readonly leaves: readonly CpuidLeaf[];
  /** Rate of its time-stamp counter, which leaves that tell it follow. Absent: the backend's own. */
  readonly tscKhz?: number | undefined;
}

export interface CpuidLeaf {
  readonly leaf: number;
  /** `undefined`: the leaf ignores ECX. */
  readonly subleaf?: number | undefined;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** One guest's memory, interrupt input and processors, in the terms of KVM. */
export interface VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  /** What CPUID tells its guest, and its counter's rate: saved with it, and compared where it is to go on. */
  readonly cpuModel?: CpuModel;
  /**
   * Becomes the processor that a saved guest knows. Only before the first `run`. Throws `NB_RESTORE` naming what it
   * cannot be. Absent: it stays what it is.
   */
  setCpuModel?(model: CpuModel): void;
  /** Allocates zeroed, page-aligned shared memory and shows it to the guest. */
  addMemory(slot: {
    readonly name: string;
    readonly gpa: number;
    readonly length: number;
    readonly readOnly?: boolean;
  }): MemorySlot;
  /** Host code wrote guest memory: drops code decoded from it, tells the dirty log. */
  memoryWritten(gpa: number, length: number): void;
  /** Input `gsi` of the interrupt controllers: 0–15 reach PIC and IOAPIC (0 is IOAPIC pin 2), 16–23 the IOAPIC. */
  setIrq(gsi: number, level: boolean): void;
  readonly msi: MsiTarget;
  /** State of the interrupt controllers the backend holds (i8259 pair, IOAPIC). LAPICs belong to their vCPU. */
  readonly irqchip: Snapshottable<unknown>;
  /**
   * What else a backend must know to go on exactly as it would have, such as which vCPU's turn it is. Of no use to
   * another backend, which goes on without it.
   */
  readonly schedule?: Snapshottable<unknown>;
  /**
   * Guest time that the backend keeps itself stands still from `pause` to `resume`, and what is saved meanwhile is of the
   * moment of `pause`; only while no `run` is pending. Once paused, or going on, it stays so when told again. Absent
   * where `VmOptions.clock` is all the time there is.
   */
  pause?(): void;
  resume?(): void;
  /** What the backend keeps beside processors and `irqchip` goes back to its power-on state. */
  reset?(): void;
  /** Absent where every access stops the vCPU, or where that costs nothing. */
  readonly shortcuts?: { readonly ports: BusShortcuts; readonly mmio: BusShortcuts };
  readonly dirtyLog: DirtyLog;
  /** Instructions and exits by kind since creation, for `--stats`. */
  stats(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/**
 * What a backend can do about accesses to one bus before they reach the machine thread. Each call gives `undefined`
 * where the backend has no more of it: those are accesses like any then.
 */
export interface BusShortcuts {
  /**
   * Lets writes to an address pass without stopping the vCPU. `ring` is called on the machine thread soon after, once
   * for several writes, and before the last pending `run` ends.
   */
  doorbell?(address: number, bell: Pick<Doorbell, "width" | "value">, ring: () => void): Unmap | undefined;
  /** Collects writes to a range; they reach the bus in their order before any other access does. */
  posted?(address: number, length: number): Unmap | undefined;
  /** Has a module answer accesses to a range on the vCPUs' threads. */
  onVcpus?(address: number, length: number, source: VcpuHandlerSource): Unmap | undefined;
}

/** Which pages were written, by the guest or by devices. */
export interface DirtyLog {
  enable(): void;
  disable(): void;
  /** Page numbers (gpa / 4096), ascending, dirtied since the last call. */
  harvest(): number[];
}

export interface RunOptions {
  /** Stop with `budget` after exactly this many instructions. */
  readonly instructions?: number | undefined;
}

/** One processor. Between runs its state is whole and architectural. */
export interface Vcpu {
  readonly index: number;
  /**
   * Executes until something ends it. The vCPUs of one machine run concurrently: each has its own pending `run`.
   * HLT does not end a run while an interrupt could still wake the vCPU.
   */
  run(options?: RunOptions): Promise<VmExit>;
  /** Makes a pending or the next `run` end with `interrupted`. Callable at any time. */
  kick(): void;
  /** Only while no `run` is pending. */
  getState(): VcpuState;
  setState(state: VcpuState): void;
  /** Power-on or INIT state of the architecture; vCPUs other than 0 then wait for SIPI. */
  reset(): void;
  /** At any time: a pending `run` soon goes on with it. A breakpoint stops before its instruction; the next run executes it. */
  setDebug(
    debug: { readonly singleStep?: boolean; readonly breakpoints?: readonly bigint[] } | undefined,
  ): void;
}

/** Why a `run` ended. Port and MMIO accesses are calls, not exits. */
export type VmExit =
  /**
   * HLT with interrupts disabled and nothing that could wake it. While another vCPU could (NMI, INIT, SIPI), the run
   * stays pending: a machine all of whose runs ended so is `halted`.
   */
  | { readonly kind: "halt" }
  /** Triple fault. */
  | { readonly kind: "shutdown"; readonly detail: string }
  | { readonly kind: "debug"; readonly rip: bigint }
  | { readonly kind: "interrupted" }
  | { readonly kind: "budget" }
  /** The backend cannot go on: an instruction it lacks, a host failure. Never in silence. */
  | {
      readonly kind: "error";
      readonly detail: string;
      readonly rip?: bigint;
      readonly instructionBytes?: Uint8Array;
    };
