import type { DrivenClock, VmExit } from "@northbridge/sdk";
import type { CpuCore } from "../cpu/core.ts";
import * as L from "../cpu/layout.ts";
import { writeRealModeCodeSegment } from "../cpu/registers.ts";
import type { ApicBus } from "../lapic/apic-bus.ts";
import { LocalApic } from "../lapic/local-apic.ts";
import { ApicBase } from "../lapic/spec.ts";
import { MsrFile } from "../msr/msr-file.ts";
import type { Processor } from "../scheduler/scheduler.ts";
import { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";

const FLAG_IF = 0x200;
const ATTENTION_INTERRUPT = 1;
const ATTENTION_STOP = 2;
const TWO_32 = 0x1_0000_0000;

/** What EXIT_UNIMPLEMENTED is about, in words. */
const LACKING: ReadonlyMap<number, string> = new Map([
  [L.LACKS_TASK_SWITCH, "hardware task switch"],
  [L.LACKS_CALL_GATE, "call gate"],
  [L.LACKS_VIRTUAL_8086, "virtual-8086 mode"],
  [L.LACKS_FERR, "x87 exception with CR0.NE clear"],
]);

export interface SoftProcessorDeps {
  readonly index: number;
  readonly core: CpuCore;
  readonly clock: DrivenClock;
  readonly apics: ApicBus;
  /** Level of the 8259 pair's output. */
  readonly picOutput: () => boolean;
  readonly endOfInterrupt: (vector: number) => void;
  /** Something a sleeping machine must hear of. */
  readonly wake: () => void;
}

/** One processor: its block of core state, its local APIC, counters and MSRs, and the signals between them. */
export class SoftProcessor implements Processor {
  readonly index: number;
  readonly lapic: LocalApic;
  readonly tsc: TimeStampCounter;
  readonly msrs: MsrFile;
  readonly #core: CpuCore;
  readonly #picOutput: () => boolean;
  readonly #wake: () => void;
  #isWaitingForStartUp: boolean;
  #initPending = false;
  #startUpPage = -1;
  #failure: string | undefined;

  constructor(deps: SoftProcessorDeps) {
    this.index = deps.index;
    this.#core = deps.core;
    this.#picOutput = deps.picOutput;
    this.#wake = deps.wake;
    this.#isWaitingForStartUp = deps.index !== 0;
    this.tsc = new TimeStampCounter(deps.clock);
    const { apics } = deps;
    this.lapic = new LocalApic({
      id: deps.index,
      clock: deps.clock,
      tsc: this.tsc,
      pins: {
        interruptChanged: () => {
          this.refreshInterrupt();
        },
        nmi: () => {
          this.#raiseNmi();
        },
        init: () => {
          this.#signalInit();
        },
        startUp: (page) => {
          this.#signalStartUp(page);
        },
        taskPriorityChanged: (cr8) => {
          this.#set(L.CR8, cr8);
        },
        endOfInterrupt: deps.endOfInterrupt,
        sendCommand: (low, destination) => {
          apics.command(this.lapic, low, destination);
        },
      },
    });
    apics.attach(this.lapic);
    this.msrs = new MsrFile({ lapic: this.lapic, tsc: this.tsc });
  }

  /** Address of this processor's state block at this moment. */
  get state(): number {
    return this.#core.stateOf(this.index);
  }

  #get(field: number): number {
    return this.#core.words[(this.state + field - L.STATE) >> 2] ?? 0;
  }

  #set(field: number, value: number): void {
    this.#core.words[(this.state + field - L.STATE) >> 2] = value;
  }

  // --- Processor --------------------------------------------------------------------------------

  get isRunnable(): boolean {
    return !this.#isWaitingForStartUp && (!this.isHalted || this.#hasWakeUp);
  }

  get isHalted(): boolean {
    return this.#get(L.HALTED) !== 0;
  }

  get isWaitingForStartUp(): boolean {
    return this.#isWaitingForStartUp;
  }

  get #hasWakeUp(): boolean {
    if (this.#get(L.NMI_PENDING) !== 0 && this.#get(L.NMI_MASKED) === 0) return true;
    return this.#get(L.INTR) !== 0 && (this.#get(L.RFLAGS) & FLAG_IF) !== 0;
  }

  get canBeWoken(): boolean {
    return !this.#isWaitingForStartUp && (this.#get(L.RFLAGS) & FLAG_IF) !== 0;
  }

  get instructions(): number {
    const words = this.#core.words;
    const at = (this.state + L.ICOUNT - L.STATE) >> 2;
    return (words[at] ?? 0) + (words[at + 1] ?? 0) * TWO_32;
  }

  get rip(): bigint {
    return this.#core.view.getBigUint64(this.state + L.RIP - L.STATE, true);
  }

  execute(budget: number): number {
    this.#set(L.HALTED, 0); // the scheduler executes a halted processor only to wake it
    this.#set(L.ATTENTION, ATTENTION_INTERRUPT);
    try {
      return this.#core.run(this.index, budget);
    } catch (failure) {
      this.fail("the software CPU", failure);
      return L.EXIT_KICK;
    }
  }

  endSlice(): void {
    this.#set(L.ATTENTION, this.#get(L.ATTENTION) | ATTENTION_STOP);
  }

  /** Remembers a failure of host code below the guest's access, and ends the run with it. */
  fail(where: string, failure: unknown): void {
    this.#failure ??= `${where}: ${failure instanceof Error ? failure.message : String(failure)}`;
    this.endSlice();
  }

  takeFailure(): string | undefined {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  exitOf(code: number): VmExit {
    const rip = this.rip;
    switch (code) {
      case L.EXIT_SHUTDOWN:
        return { kind: "shutdown", detail: `vCPU ${this.index}: triple fault at RIP 0x${rip.toString(16)}` };
      case L.EXIT_DEBUG:
        return { kind: "debug", rip };
      case L.EXIT_UNIMPLEMENTED: {
        const address = this.state + L.EXIT_BYTES - L.STATE;
        const count = Math.min(15, this.#core.view.getUint32(address, true));
        const instructionBytes = new Uint8Array(this.#core.memory, address + 4, count).slice();
        const what = LACKING.get(this.#get(L.EXIT_ARG)) ?? "instruction";
        return {
          kind: "error",
          detail: `not implemented: ${what}`,
          rip,
          instructionBytes,
        };
      }
      default:
        return { kind: "error", detail: `unknown exit ${code}`, rip };
    }
  }

  // --- interrupts -------------------------------------------------------------------------------

  /** Tells the core whether an interrupt controller wants this processor. */
  refreshInterrupt(): void {
    const lapic = this.lapic as LocalApic | undefined;
    if (lapic === undefined) return; // the APIC under construction reports its reset
    const wanted = lapic.hasInterrupt || (this.#picOutput() && lapic.acceptsExtInt);
    this.#set(L.INTR, wanted ? 1 : 0);
    if (!wanted) return;
    this.#set(L.ATTENTION, this.#get(L.ATTENTION) | ATTENTION_INTERRUPT);
    this.#wake();
  }

  #raiseNmi(): void {
    this.#set(L.NMI_PENDING, 1);
    this.#set(L.ATTENTION, this.#get(L.ATTENTION) | ATTENTION_INTERRUPT);
    this.#wake();
  }

  #signalInit(): void {
    this.#initPending = true;
    this.#startUpPage = -1;
    this.endSlice();
    this.#wake();
  }

  #signalStartUp(page: number): void {
    if (!this.#isWaitingForStartUp && !this.#initPending) return; // ignored by a running processor (SDM 3A §9.4.4)
    this.#startUpPage = page;
    this.#wake();
  }

  service(): void {
    if (this.#initPending) {
      this.#initPending = false;
      this.#init();
    }
    if (this.#startUpPage >= 0 && this.#isWaitingForStartUp) {
      const { view } = this.#core;
      writeRealModeCodeSegment(view, this.state, this.#startUpPage);
      this.#core.stateChanged(this.index);
      this.#isWaitingForStartUp = false;
      this.#startUpPage = -1;
    }
  }

  /** INIT leaves the x87 and SSE state, CR0.CD and NW and the counters alone (SDM 3A table 10-1). */
  #init(): void {
    const bytes = new Uint8Array(
      this.#core.memory,
      0,
      L.STATE_END + L.VCPU_SAVE + L.MAX_VCPUS * L.VCPU_SAVE_SIZE,
    );
    const from = this.state + L.XMM - L.STATE;
    const kept = bytes.slice(from, from + (L.SCRATCH - L.XMM));
    const retired = this.#core.view.getBigUint64(this.state + L.ICOUNT - L.STATE, true);
    this.#core.resetVcpu(this.index);
    bytes.set(kept, this.state + L.XMM - L.STATE);
    this.#core.view.setBigUint64(this.state + L.ICOUNT - L.STATE, retired, true);
    this.#core.stateChanged(this.index);
    this.lapic.init();
    this.#isWaitingForStartUp = (this.lapic.baseLow & ApicBase.BSP) === 0;
  }

  /** Power-on state of the processor and its APIC. */
  reset(): void {
    this.#initPending = false;
    this.#startUpPage = -1;
    this.#failure = undefined;
    this.#core.resetVcpu(this.index);
    this.tsc.reset();
    this.msrs.reset();
    this.lapic.reset();
    this.#isWaitingForStartUp = this.index !== 0;
    this.refreshInterrupt();
  }

  /** Takes a saved processor's activity over. */
  adoptActivity(mpState: "runnable" | "halted" | "waitForSipi" | "initReceived"): void {
    this.#initPending = false;
    this.#startUpPage = -1;
    this.#isWaitingForStartUp = mpState === "waitForSipi" || mpState === "initReceived";
    this.#set(L.HALTED, mpState === "halted" ? 1 : 0);
  }
}
