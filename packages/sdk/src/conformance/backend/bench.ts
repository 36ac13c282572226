import type {
  DrivenClock,
  Hypervisor,
  IoWidth,
  KvmSegment,
  MemorySlot,
  Vcpu,
  VcpuState,
  VirtualMachine,
  VmExit,
} from "@northbridge/core/contracts";
import {
  GDT_LIMIT,
  Gpa,
  interruptStack,
  kernelStack,
  NX,
  Port,
  PTE,
  Selector,
  TEST_MMIO,
  WINDOW,
} from "./layout.ts";
import type { GuestProgram } from "./program.ts";

/** A backend and what a test of it needs. */
export interface BackendUnderTest {
  createHypervisor(): Hypervisor;
  /** A fresh clock for one machine. */
  createClock(): DrivenClock;
  /** False where `run({ instructions })` is not exact: tests that count instructions are then left out. */
  readonly countsInstructions?: boolean;
  /** What the backend documents as missing: tests that need it are left out. */
  readonly lacks?: readonly Feature[];
}

/** Parts of the architecture that a backend may do without. */
export type Feature =
  /** Limits, types and null selectors of data segments outside 64-bit mode. */
  | "segmentChecks"
  /** Breakpoints of DR0–DR3 that the guest sets for itself. */
  | "guestBreakpoints"
  /** #AC. */
  | "alignmentCheck";

/** An exception that a program reported. */
export interface Trap {
  readonly vector: number;
  readonly error: number;
  readonly rip: number;
  readonly cs: number;
  readonly cr2: number;
}
/** What a guest program of the suite reports. */
export type Report = number | Trap;

export interface Access {
  readonly kind: "read" | "write";
  readonly offset: number;
  readonly width: IoWidth;
  readonly value: number;
}

/** Instructions after which a program is taken for lost. */
const PATIENCE = 20_000_000;

/** One machine with a program in it and the devices that listen to it. */
export class GuestBench {
  readonly vm: VirtualMachine;
  readonly ram: MemorySlot;
  readonly reports: Report[] = [];
  /** Accesses to the test device at `TEST_MMIO` and at `Port.SCRATCH`. */
  readonly mmio: Access[] = [];
  readonly ports: Access[] = [];
  /** What reads of the test devices answer, by offset. */
  readonly answers: Map<number, number> = new Map();
  readonly actions: Map<number, () => void> = new Map();
  readonly #devices: TestDevices;

  private constructor(vm: VirtualMachine, devices: TestDevices) {
    this.vm = vm;
    this.#devices = devices;
    this.ram = vm.addMemory({ name: "ram", gpa: 0, length: Gpa.RAM });
  }

  static async create(backend: BackendUnderTest, vcpus = 1): Promise<GuestBench> {
    const devices = new TestDevices();
    const vm = await backend.createHypervisor().createVm({
      vcpus,
      clock: backend.createClock(),
      memoryBytes: Gpa.RAM,
      ports: {
        read: (port, width) => devices.bench?.readPort(port, width) ?? 0xff,
        write: (port, width, value) => {
          devices.bench?.writePort(port, width, value);
        },
      },
      mmio: {
        read: (gpa, width) => devices.bench?.readMmio(gpa, width) ?? 0xff,
        write: (gpa, width, value) => devices.bench?.writeMmio(gpa, width, value),
      },
    });
    const bench = new GuestBench(vm, devices);
    devices.bench = bench;
    for (const vcpu of vm.vcpus) vcpu.reset();
    return bench;
  }

  get finished(): boolean {
    return this.#devices.finished;
  }

  get view(): DataView {
    return new DataView(this.ram.bytes.buffer, this.ram.bytes.byteOffset, this.ram.bytes.byteLength);
  }

  vcpu(index = 0): Vcpu {
    const vcpu = this.vm.vcpus[index];
    if (vcpu === undefined) throw new Error(`the machine has no vCPU ${index.toString()}`);
    return vcpu;
  }

  /** Writes code and tables, and puts vCPU 0 at the program's start. */
  load(program: GuestProgram): void {
    const image = program.a.finish();
    this.ram.bytes.set(image, Gpa.CODE);
    this.#writeTables(program);
    for (const [gpa, bytes] of program.memory) this.ram.bytes.set(bytes, gpa);
    this.vm.memoryWritten(0, Gpa.RAM);
    this.enterLongMode(0, Gpa.CODE);
  }

  /** Puts a vCPU into 64-bit mode at CPL 0 at `rip`, with its own stack and TSS. */
  enterLongMode(cpu: number, rip: number): void {
    const vcpu = this.vcpu(cpu);
    vcpu.setState(longModeState(vcpu.getState(), cpu, rip));
  }

  /** Runs until the program says it is done or a vCPU stops; returns the exits by vCPU. */
  async run(): Promise<VmExit[]> {
    return Promise.all(this.vm.vcpus.map((vcpu) => this.#runOne(vcpu)));
  }

  async #runOne(vcpu: Vcpu): Promise<VmExit> {
    const exit = await vcpu.run({ instructions: PATIENCE });
    // The others would run for ever.
    this.#devices.finished = true;
    for (const other of this.vm.vcpus) if (other !== vcpu) other.kick();
    return exit;
  }

  async close(): Promise<void> {
    await this.vm.close();
  }

  readPort(port: number, width: IoWidth): number {
    const offset = port - Port.SCRATCH;
    const value = this.answers.get(offset) ?? (width === 1 ? 0xff : width === 2 ? 0xffff : 0xffffffff);
    this.ports.push({ kind: "read", offset, width, value });
    return value;
  }

  writePort(port: number, width: IoWidth, value: number): void {
    switch (port) {
      case Port.REPORT:
        this.reports.push(value);
        break;
      case Port.TRAP:
        this.#devices.trap.push(value);
        this.#collectTrap();
        break;
      case Port.IRQ:
        this.vm.setIrq(value & 0xff, (value & 0x100) !== 0);
        break;
      case Port.ACTION:
        this.actions.get(value)?.();
        break;
      case Port.DONE:
        this.#devices.finished = true;
        for (const vcpu of this.vm.vcpus) vcpu.kick();
        break;
      default:
        this.ports.push({ kind: "write", offset: port - Port.SCRATCH, width, value });
    }
  }

  readMmio(gpa: number, width: IoWidth): number {
    const offset = gpa - TEST_MMIO;
    const value = this.answers.get(offset) ?? (width === 1 ? 0xff : width === 2 ? 0xffff : 0xffffffff);
    this.mmio.push({ kind: "read", offset, width, value });
    return value;
  }

  writeMmio(gpa: number, width: IoWidth, value: number): void {
    this.mmio.push({ kind: "write", offset: gpa - TEST_MMIO, width, value });
  }

  #collectTrap(): void {
    const [vector, error, rip, cs, cr2] = this.#devices.trap;
    if (
      vector === undefined ||
      error === undefined ||
      rip === undefined ||
      cs === undefined ||
      cr2 === undefined
    )
      return;
    this.#devices.trap.length = 0;
    this.reports.push({ vector, error, rip, cs: cs & 0xffff, cr2 });
  }

  #writeTables(program: GuestProgram): void {
    const { view } = this;
    const table = BigInt(PTE.P | PTE.RW | PTE.US);
    const put = (gpa: number, value: bigint): void => {
      view.setBigUint64(gpa, value, true);
    };
    put(Gpa.PML4, BigInt(Gpa.PDPT) | table);
    for (let i = 0; i < 4; i++) put(Gpa.PDPT + 8 * i, BigInt(Gpa.PD + 0x1000 * i) | table);
    for (let i = 0; i < 2048; i++) put(Gpa.PD + 8 * i, (BigInt(i) << 21n) | table | BigInt(PTE.PS));
    put(Gpa.PML4 + 8 * Math.floor(WINDOW / 2 ** 39), BigInt(Gpa.WINDOW_PDPT) | table);
    put(Gpa.WINDOW_PDPT, BigInt(Gpa.WINDOW_PD) | table);
    put(Gpa.WINDOW_PD, BigInt(Gpa.WINDOW_PT) | table);
    for (const [index, entry] of program.window) put(Gpa.WINDOW_PT + 8 * index, entry);

    const descriptors: readonly (readonly [number, bigint])[] = [
      [Selector.KERNEL_CODE, 0x00af9b000000ffffn],
      [Selector.KERNEL_DATA, 0x00cf93000000ffffn],
      [Selector.USER_CODE32 & ~3, 0x00cffb000000ffffn],
      [Selector.USER_DATA & ~3, 0x00cff3000000ffffn],
      [Selector.USER_CODE & ~3, 0x00affb000000ffffn],
      [Selector.USER_DATA2 & ~3, 0x00cff3000000ffffn],
      [Selector.KERNEL_CODE32, 0x00cf9b000000ffffn],
      [Selector.KERNEL_CODE16, 0x00009b000000ffffn],
      [Selector.KERNEL_DATA16, 0x000093000000ffffn],
      [Selector.ABSENT_DATA, 0x00cf13000000ffffn],
      [Selector.ABSENT_CODE, 0x00af1b000000ffffn],
      [Selector.READ_ONLY_DATA, 0x00cf91000000ffffn],
    ];
    for (const [selector, descriptor] of descriptors) put(Gpa.GDT + selector, descriptor);
    for (let cpu = 0; cpu < this.vm.vcpus.length; cpu++) {
      const tss = Gpa.TSS + 0x80 * cpu;
      put(tss + 4, BigInt(kernelStack(cpu)));
      for (let ist = 1; ist <= 7; ist++) put(tss + 0x1c + 8 * ist, BigInt(interruptStack(ist)));
      view.setUint16(tss + 0x66, 0x68, true);
      put(Gpa.GDT + Selector.TSS + 16 * cpu, 0x0000890000000067n | (BigInt(tss) << 16n));
      put(Gpa.GDT + Selector.TSS + 16 * cpu + 8, 0n);
    }
    for (const [vector, gate] of program.gates) {
      const handler = BigInt(program.a.addressOf(gate.label));
      const attributes =
        (gate.type === "interrupt" ? 0xe : 0xf) | (gate.dpl << 5) | (gate.present ? 0x80 : 0);
      const low =
        (handler & 0xffffn) |
        (BigInt(Selector.KERNEL_CODE) << 16n) |
        (BigInt(gate.ist) << 32n) |
        (BigInt(attributes) << 40n);
      put(Gpa.IDT + 16 * vector, low | ((handler >> 16n) << 48n));
      put(Gpa.IDT + 16 * vector + 8, 0n);
    }
  }
}

class TestDevices {
  bench: GuestBench | undefined;
  finished = false;
  readonly trap: number[] = [];
}

function segment(selector: number, type: number, dpl: number, size: { db: boolean; l: boolean }): KvmSegment {
  return {
    base: 0n,
    limit: 0xffffffff,
    selector,
    type,
    present: true,
    dpl,
    s: true,
    g: true,
    avl: false,
    unusable: false,
    ...size,
  };
}

/** `from` with the registers of a vCPU that has just entered 64-bit mode at `rip`. */
export function longModeState(from: VcpuState, cpu: number, rip: number): VcpuState {
  const data = segment(Selector.KERNEL_DATA, 3, 0, { db: true, l: false });
  const system = {
    base: 0n,
    limit: 0,
    selector: 0,
    type: 2,
    present: true,
    dpl: 0,
    db: false,
    s: false,
    l: false,
    g: false,
    avl: false,
    unusable: true,
  };
  const zero = {
    rax: 0n,
    rbx: 0n,
    rcx: 0n,
    rdx: 0n,
    rsi: 0n,
    rdi: 0n,
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
  };
  return {
    ...from,
    mpState: "runnable",
    regs: { ...zero, rsp: BigInt(kernelStack(cpu)), rip: BigInt(rip), rflags: 2n },
    sregs: {
      ...from.sregs,
      cs: segment(Selector.KERNEL_CODE, 11, 0, { db: false, l: true }),
      ds: data,
      es: data,
      ss: data,
      fs: data,
      gs: data,
      ldt: system,
      tr: {
        ...system,
        base: BigInt(Gpa.TSS + 0x80 * cpu),
        limit: 0x67,
        selector: Selector.TSS + 16 * cpu,
        type: 11,
        unusable: false,
      },
      gdt: { base: BigInt(Gpa.GDT), limit: GDT_LIMIT },
      idt: { base: BigInt(Gpa.IDT), limit: 0xfff },
      cr0: 0x80010033n,
      cr2: 0n,
      cr3: BigInt(Gpa.PML4),
      cr4: 0x6a0n,
      cr8: 0n,
      efer: 0xd01n,
    },
  };
}

/** Window page table entry for a page of `Gpa.PAGES`. */
export const windowEntry = (page: number, flags: number, noExecute = false): bigint =>
  BigInt(Gpa.PAGES + 0x1000 * page) | BigInt(flags) | (noExecute ? NX : 0n);
/** Linear address of window page `index`. */
export const windowPage = (index: number): number => WINDOW + 0x1000 * index;
