import type {
  DirtyLog,
  Hypervisor,
  KvmSegment,
  MemorySlot,
  Snapshottable,
  Vcpu,
  VcpuState,
  VirtualMachine,
  VmExit,
  VmOptions,
} from "../contracts/index.ts";

/** What a fake guest does: one step at a time, with the machine's buses and memory at hand. */
export type FakeStep = (vm: FakeVm, options: VmOptions) => VmExit | undefined;

const segment: KvmSegment = {
  base: 0n,
  limit: 0xffff,
  selector: 0,
  type: 3,
  present: true,
  dpl: 0,
  db: false,
  s: true,
  l: false,
  g: false,
  avl: false,
  unusable: false,
};

const powerOn: VcpuState = {
  version: 1,
  regs: {
    rax: 0n,
    rbx: 0n,
    rcx: 0n,
    rdx: 0n,
    rsi: 0n,
    rdi: 0n,
    rsp: 0n,
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
    rip: 0xfff0n,
    rflags: 2n,
  },
  sregs: {
    cs: segment,
    ds: segment,
    es: segment,
    fs: segment,
    gs: segment,
    ss: segment,
    tr: segment,
    ldt: segment,
    gdt: { base: 0n, limit: 0xffff },
    idt: { base: 0n, limit: 0xffff },
    cr0: 0x10n,
    cr2: 0n,
    cr3: 0n,
    cr4: 0n,
    cr8: 0n,
    efer: 0n,
    apicBase: 0xfee0_0900n,
  },
  fxsave: "",
  xcr0: 1n,
  msrs: [[0x10, 0xffff_ffff_ffff_ffffn]],
  lapic: "",
  events: { nmiPending: false, nmiMasked: false, interruptShadow: false },
  debugregs: { db: [0n, 0n, 0n, 0n], dr6: 0xffff_0ff0n, dr7: 0x400n },
  mpState: "runnable",
  tsc: 0n,
};

/** A processor whose program is a function. RIP counts its steps, so a saved one goes on where it was. */
class FakeVcpu implements Vcpu {
  readonly index: number;
  readonly #step: (rip: number) => VmExit | undefined;
  #state: VcpuState = powerOn;
  #kicked = false;
  #isPending = false;

  constructor(index: number, step: (rip: number) => VmExit | undefined) {
    this.index = index;
    this.#step = step;
    this.reset();
  }

  async run(): Promise<VmExit> {
    if (this.#isPending) throw new Error("two runs at once");
    this.#isPending = true;
    try {
      for (;;) {
        if (this.#kicked) {
          this.#kicked = false;
          return { kind: "interrupted" };
        }
        const rip = this.#state.regs.rip;
        this.#state = { ...this.#state, regs: { ...this.#state.regs, rip: rip + 1n } };
        const exit = this.#step(Number(rip));
        if (exit !== undefined) return exit;
        await new Promise((done) => setImmediate(done));
      }
    } finally {
      this.#isPending = false;
    }
  }

  kick(): void {
    this.#kicked = true;
  }

  getState(): VcpuState {
    if (this.#isPending) throw new Error("a run is pending");
    return this.#state;
  }

  setState(state: VcpuState): void {
    if (this.#isPending) throw new Error("a run is pending");
    this.#state = state;
  }

  reset(): void {
    this.setState({ ...powerOn, regs: { ...powerOn.regs, rip: 0n } });
  }

  setDebug(): void {
    throw new Error("the fake has no debugger");
  }
}

export class FakeVm implements VirtualMachine {
  readonly vcpus: readonly FakeVcpu[];
  readonly slots: MemorySlot[] = [];
  readonly edges: string[] = [];
  readonly written: [number, number][] = [];
  readonly messages: [number, number][] = [];
  irqchipState = 0;
  closed = 0;
  readonly msi = {
    signal: (address: number, data: number): void => void this.messages.push([address, data]),
  };
  readonly irqchip: Snapshottable<unknown> = {
    save: () => ({ version: 1, state: this.irqchipState }),
    restore: (state) => void (this.irqchipState = (state as { state: number }).state),
  };
  readonly dirtyLog: DirtyLog = { enable: () => undefined, disable: () => undefined, harvest: () => [] };

  constructor(options: VmOptions, program: readonly FakeStep[]) {
    this.vcpus = Array.from(
      { length: options.vcpus },
      (_, index) => new FakeVcpu(index, (rip) => (index === 0 ? program[rip]?.(this, options) : undefined)),
    );
  }

  addMemory(slot: {
    readonly name: string;
    readonly gpa: number;
    readonly length: number;
    readonly readOnly?: boolean;
  }): MemorySlot {
    const made = { readOnly: false, ...slot, bytes: new Uint8Array(new SharedArrayBuffer(slot.length)) };
    this.slots.push(made);
    return made;
  }

  memoryWritten(gpa: number, length: number): void {
    this.written.push([gpa, length]);
  }

  setIrq(gsi: number, level: boolean): void {
    this.edges.push(`${gsi}${level ? "↑" : "↓"}`);
  }

  stats(): Readonly<Record<string, number>> {
    return { instructions: 7 };
  }

  close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }
}

/** A hypervisor whose guest is `program`: after its last step vCPU 0 idles; the other vCPUs always do. */
export class FakeHypervisor implements Hypervisor {
  readonly name = "fake";
  readonly limits = { memoryMib: 64, vcpus: 4 };
  readonly vms: FakeVm[] = [];
  readonly #program: readonly FakeStep[];

  constructor(program: readonly FakeStep[] = []) {
    this.#program = program;
  }

  createVm(options: VmOptions): Promise<FakeVm> {
    const vm = new FakeVm(options, this.#program);
    this.vms.push(vm);
    return Promise.resolve(vm);
  }
}
