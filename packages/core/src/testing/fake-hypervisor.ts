import type {
  DirtyLog,
  DrivenClock,
  Hypervisor,
  MemorySlot,
  Snapshottable,
  Vcpu,
  VcpuState,
  VirtualMachine,
  VmExit,
  VmOptions,
} from "../contracts/index.ts";
import { powerOnState } from "../boot/start-state.ts";

/** What a fake guest does: one step at a time, with the machine's buses and memory at hand. */
export type FakeStep = (vm: FakeVm, options: VmOptions) => VmExit | undefined;

/** A processor whose program is a function. RIP counts its steps, so a saved one goes on where it was. */
class FakeVcpu implements Vcpu {
  readonly index: number;
  readonly #step: (rip: number) => VmExit | undefined;
  readonly #clock: DrivenClock;
  #state: VcpuState;
  #kicked = false;
  #isPending = false;

  constructor(index: number, clock: DrivenClock, step: (rip: number) => VmExit | undefined) {
    this.index = index;
    this.#clock = clock;
    this.#step = step;
    this.#state = this.#atReset();
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
        this.#clock.runDue();
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
    this.setState(this.#atReset());
  }

  #atReset(): VcpuState {
    const state = powerOnState(this.index);
    return { ...state, regs: { ...state.regs, rip: 0n } };
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
  /** What the machine did about guest time and power. */
  readonly told: string[] = [];
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
      (_, index) =>
        new FakeVcpu(index, options.clock, (rip) =>
          index === 0 ? program[rip]?.(this, options) : undefined,
        ),
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

  pause(): void {
    this.told.push("pause");
  }

  resume(): void {
    this.told.push("resume");
  }

  reset(): void {
    this.told.push("reset");
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
