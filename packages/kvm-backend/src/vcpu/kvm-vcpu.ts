import { close, ioctlBuffer, nameErrno, RootedBuffer, type SharedMapping } from "@northbridge/linux";
import {
  type BusAccess,
  type CpuModel,
  NorthbridgeError,
  type RunOptions,
  type Vcpu,
  type VcpuState,
  type VmExit,
} from "@northbridge/sdk";
import { setCpuid } from "../abi/cpuid.ts";
import { Exit, InternalError, Request, Run, SizeOf } from "../abi/spec.ts";
import { setTscRate, tscRate } from "../abi/tsc-rate.ts";
import { Accesses, type ExitCounts } from "./accesses.ts";
import type { OutsideControllers } from "../vm/controllers.ts";
import { Debugging } from "./debugging.ts";
import { describeExit, instructionOf } from "./describe-exit.ts";
import type { EmulationFailureHook } from "./emulation-failure.ts";
import { CALM } from "./spinning.ts";
import type { StateAccess } from "./vcpu-state.ts";
import type { VcpuThread } from "./vcpu-thread.ts";

const EINTR = "EINTR";
const RFLAGS_IF = 0x200n;
const MAX_INSTRUCTION = 15;
/** So often in a row a dirty ring may be full and yet empty. */
const MOST_VAIN_RING_EXITS = 10;
/** Exits served in one go before timers and sockets get their turn. */
const BATCH = 64;

/** One processor under KVM. Its thread enters the guest; everything else happens on the machine thread. */
export class KvmVcpu implements Vcpu {
  readonly index: number;
  readonly #fd: number;
  readonly #thread: VcpuThread;
  readonly #mapping: SharedMapping;
  readonly #run: DataView;
  readonly #state: StateAccess;
  readonly #accesses: Accesses;
  readonly #counts: ExitCounts;
  #powerOn: VcpuState;
  readonly #peek: (gpa: number, length: number) => Uint8Array;
  readonly #onEmulationFailure: EmulationFailureHook | undefined;
  readonly #controllers: OutsideControllers | undefined;
  readonly #beforeExit: () => void;
  readonly #ringFull: () => boolean;
  readonly #pendingChanged: () => void;
  #isPending = false;
  #isClosing = false;
  /** The end of the pending run, or of the last one. */
  #ended: Promise<void> = Promise.resolve();
  #isKicked = false;
  #isDeclaredDead = false;
  #abortion: Error | undefined;
  readonly #debugging: Debugging;
  /** Kicks still to be left to the event loop. */
  #impatience = 0;
  #vainRingExits = 0;
  /** Ends the wait for an interrupt. */
  #wake: (() => void) | undefined;

  constructor(deps: {
    readonly index: number;
    readonly fd: number;
    readonly thread: VcpuThread;
    readonly mapping: SharedMapping;
    readonly state: StateAccess;
    /** What `reset` goes back to. */
    readonly powerOn: VcpuState;
    readonly ports: BusAccess;
    readonly mmio: BusAccess;
    readonly counts: ExitCounts;
    readonly peek: (gpa: number, length: number) => Uint8Array;
    readonly onEmulationFailure: EmulationFailureHook | undefined;
    /** Interrupt controllers outside of the kernel. */
    readonly controllers: OutsideControllers | undefined;
    /** Flags of `kvm_guest_debug` that this KVM takes. */
    readonly guestDebug: number;
    /** An exit is about to be served. */
    readonly beforeExit: () => void;
    /** The vCPU's dirty ring must be read before it can go on. Returns whether any ring had anything in it. */
    readonly ringFull: () => boolean;
    /** A run began or ended. */
    readonly pendingChanged: () => void;
  }) {
    this.index = deps.index;
    this.#fd = deps.fd;
    this.#thread = deps.thread;
    this.#mapping = deps.mapping;
    this.#run = new DataView(deps.mapping.buffer);
    this.#state = deps.state;
    this.#counts = deps.counts;
    this.#peek = deps.peek;
    this.#onEmulationFailure = deps.onEmulationFailure;
    this.#controllers = deps.controllers;
    this.#beforeExit = deps.beforeExit;
    this.#ringFull = deps.ringFull;
    this.#pendingChanged = deps.pendingChanged;
    this.#accesses = new Accesses({ ...deps, run: this.#run });
    this.#powerOn = deps.powerOn;
    this.#debugging = new Debugging(deps.fd, `vCPU ${deps.index}`, deps.guestDebug);
  }

  /** Resolves when the thread can run it. Throws `NB_BACKEND`. */
  ready(): Promise<void> {
    return this.#thread.attach({ fd: this.#fd, run: this.#mapping.buffer });
  }

  /** KVM counts no instructions: a budget is taken as none. */
  async run(_options?: RunOptions): Promise<VmExit> {
    this.#assertStopped("run");
    const ended: PromiseWithResolvers<void> = Promise.withResolvers();
    this.#ended = ended.promise;
    this.#isPending = true;
    this.#isDeclaredDead = false;
    try {
      this.#pendingChanged();
      this.#debugging.beginStepOff(() => this.#state.regs().rip);
      for (let served = 1; ; served++) {
        const end = this.#state.isHalted ? await this.#wait() : undefined;
        if (end !== undefined) return end;
        await this.#enter(served % BATCH !== 0);
        const exit = this.#serve();
        if (this.#abortion !== undefined) throw this.#abortion;
        if (exit !== undefined) return exit;
      }
    } finally {
      this.#isPending = false;
      this.#abortion = undefined;
      ended.resolve();
      this.#debugging.endStepOff();
      this.#pendingChanged();
    }
  }

  kick(): void {
    this.#isKicked = true;
    this.#wake?.();
    if (!this.#thread.isInGuest) return;
    this.#run.setUint8(Run.IMMEDIATE_EXIT, 1);
    // A task of the event loop would say so too, and take longer than most guests.
    if (this.#impatience > 0) {
      this.#impatience--;
      this.#thread.interrupt();
    } else if (!this.#thread.interruptAndWait()) this.#impatience = CALM;
  }

  getState(): VcpuState {
    this.#assertStopped("getState");
    return this.#state.save();
  }

  setState(state: VcpuState): void {
    this.#assertStopped("setState");
    this.#load(state);
  }

  reset(): void {
    this.#assertStopped("reset");
    // The counter goes on: not every KVM can set it back.
    this.#load({ ...this.#powerOn, tsc: this.#state.tsc() });
  }

  #load(state: VcpuState): void {
    this.#state.load(state);
    // What `kvm_run` says of the state before, and what it tells a processor without a local APIC in the kernel.
    this.#run.setUint8(Run.READY_FOR_INTERRUPT_INJECTION, 0);
    this.#run.setBigUint64(Run.CR8, state.sregs.cr8, true);
  }

  setDebug(
    debug: { readonly singleStep?: boolean; readonly breakpoints?: readonly bigint[] } | undefined,
  ): void {
    this.#assertOpen("setDebug");
    this.#debugging.want(debug);
    // KVM would wait for the end of KVM_RUN.
    this.nudge();
    this.#debugging.apply();
  }

  /** Guest time of a machine that stands still: see `StateAccess`. */
  get time(): Pick<StateAccess, "holdTsc" | "tscLag" | "releaseTsc"> {
    return this.#state;
  }

  /** Becomes another processor, of so many, before it first runs. Throws `SystemCallError`. */
  setCpuid(model: CpuModel, vcpus: number): void {
    this.#assertStopped("setCpuModel");
    setCpuid(this.#fd, this.index, model, vcpus);
    this.#powerOn = this.#state.processorChanged(this.#powerOn);
  }

  /** Rate of its time-stamp counter, in kHz. */
  get tscKhz(): number {
    return tscRate(this.#fd);
  }

  /** Returns whether the counter counts at that rate now. */
  setTscRate(khz: number, canScale: boolean): boolean {
    return setTscRate(this.#fd, khz, canScale);
  }

  get isPending(): boolean {
    return this.#isPending;
  }

  /** Exits that never left the vCPU's thread. */
  get answered(): number {
    return this.#thread.answered;
  }

  addRange(range: Parameters<VcpuThread["addRange"]>[0]): void {
    this.#thread.addRange(range);
  }

  /** The kernel's number of the vCPU's thread. */
  get tid(): number {
    return this.#thread.tid;
  }

  /** Makes the guest leave for a moment, and a processor without a local APIC see an interrupt. */
  poke(): void {
    this.#wake?.();
    this.#interrupt();
  }

  /** Returns when the guest has left: a pending run goes on afterwards. */
  nudge(): void {
    while (this.#thread.isInGuest) {
      this.#run.setUint8(Run.IMMEDIATE_EXIT, 1);
      this.#thread.interruptAndWait();
    }
  }

  /** Makes the pending run reject: something that it caused failed outside of it. */
  abort(error: Error): void {
    this.#abortion = error;
    this.#wake?.();
    this.#interrupt();
  }

  /** Ends the pending run with `halt`. */
  declareDead(): void {
    this.#isDeclaredDead = true;
    this.#interrupt();
  }

  /** Ends the pending run with `interrupted`, stops the thread and lets go of the vCPU. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.kick();
    await this.#ended;
    await this.#thread.stop();
    this.#mapping.unmap();
    close(this.#fd);
  }

  #interrupt(): void {
    if (!this.#thread.isInGuest) return;
    this.#run.setUint8(Run.IMMEDIATE_EXIT, 1);
    this.#thread.interrupt();
  }

  /** After HLT without a local APIC: `undefined` once there is an interrupt, else why the run ends. */
  async #wait(): Promise<VmExit | undefined> {
    if ((this.#state.regs().rflags & RFLAGS_IF) === 0n) return { kind: "halt" };
    while (!this.#isKicked && this.#abortion === undefined && this.#controllers?.isAsserted !== true)
      await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
    if (this.#abortion !== undefined) throw this.#abortion;
    if (this.#isKicked) return this.#takeKick();
    this.#state.isHalted = false;
    // A processor in HLT takes it at once: `kvm_run` does not say so of one that was restored.
    this.#run.setUint8(Run.READY_FOR_INTERRUPT_INJECTION, 1);
    return undefined;
  }

  async #enter(maySpin: boolean): Promise<void> {
    const mustReturn = this.#isKicked || this.#isDeclaredDead || this.#abortion !== undefined;
    this.#run.setUint8(Run.IMMEDIATE_EXIT, mustReturn ? 1 : 0);
    if (this.#controllers !== undefined && this.index === 0) this.#offerInterrupt(mustReturn);
    this.#thread.enter();
    if (!maySpin || !this.#thread.isBackSoon()) await this.#thread.exited();
  }

  /** Hands an interrupt of the 8259 pair over, where the guest can take it at once; else asks to hear when it can. */
  #offerInterrupt(mustReturn: boolean): void {
    const controllers = this.#controllers;
    if (controllers === undefined) return;
    const isReady = this.#run.getUint8(Run.READY_FOR_INTERRUPT_INJECTION) !== 0;
    if (controllers.isAsserted && isReady && !mustReturn)
      this.#state.injectInterrupt(controllers.acknowledge());
    this.#run.setUint8(Run.REQUEST_INTERRUPT_WINDOW, controllers.isAsserted ? 1 : 0);
  }

  /** What the exit means: `undefined` where the guest goes on. */
  #serve(): VmExit | undefined {
    this.#beforeExit();
    if (this.#thread.errno !== 0) return this.#serveErrno(nameErrno(this.#thread.errno));
    const reason = this.#run.getUint32(Run.EXIT_REASON, true);
    switch (reason) {
      case Exit.IO:
        this.#accesses.port();
        return undefined;
      case Exit.MMIO:
        this.#accesses.memory();
        return undefined;
      case Exit.HLT:
        this.#state.isHalted = true;
        return undefined;
      case Exit.SHUTDOWN:
        return { kind: "shutdown", detail: `triple fault at RIP 0x${this.#state.regs().rip.toString(16)}` };
      case Exit.DEBUG:
        return this.#debugging.endStepOff()
          ? undefined
          : { kind: "debug", rip: this.#run.getBigUint64(Run.DEBUG_PC, true) };
      case Exit.INTR:
        return this.#serveErrno(EINTR);
      case Exit.INTERNAL_ERROR:
        return this.#serveInternalError();
      case Exit.IOAPIC_EOI:
        this.#controllers?.endOfInterrupt(this.#run.getUint8(Run.EOI_VECTOR));
        return undefined;
      case Exit.IRQ_WINDOW_OPEN:
      case Exit.SET_TPR: // a task priority without a local APIC: the 8259 pair takes no notice
        return undefined;
      case Exit.DIRTY_RING_FULL:
        return this.#serveRingFull();
      default:
        return this.#fail(describeExit(this.#run));
    }
  }

  #serveErrno(errno: string): VmExit | undefined {
    if (errno === "EAGAIN") return undefined;
    if (errno !== EINTR) return this.#fail(`KVM_RUN failed with ${errno}`);
    if (this.#isKicked) return this.#takeKick();
    return this.#isDeclaredDead ? { kind: "halt" } : undefined;
  }

  #takeKick(): VmExit {
    this.#isKicked = false;
    this.#counts.kicks++;
    return { kind: "interrupted" };
  }

  /** Another vCPU's exit may have emptied the ring already; but a KVM that lets one overflow says so for ever. */
  #serveRingFull(): VmExit | undefined {
    this.#counts.dirtyRingFull++;
    this.#vainRingExits = this.#ringFull() ? 0 : this.#vainRingExits + 1;
    if (this.#vainRingExits < MOST_VAIN_RING_EXITS) return undefined;
    return this.#fail("the kernel wrote more pages than the dirty ring has room for: it needs more entries");
  }

  #serveInternalError(): VmExit | undefined {
    const suberror = this.#run.getUint32(Run.INTERNAL_SUBERROR, true);
    if (suberror !== InternalError.EMULATION) return this.#fail(describeExit(this.#run));
    this.#counts.emulationFailures++;
    const regs = this.#state.regs();
    const instructionBytes = instructionOf(this.#run) ?? this.#bytesAt(regs.rip);
    const resumption = this.#onEmulationFailure?.({ vcpu: this.index, regs, instructionBytes });
    if (resumption === undefined) return this.#fail(describeExit(this.#run), instructionBytes);
    this.#state.setRegs(resumption.regs);
    const { exception } = resumption;
    if (exception !== undefined) this.#state.events.injectException(exception.vector, exception.error);
    return undefined;
  }

  #fail(reason: string, bytes?: Uint8Array): VmExit {
    const { rip } = this.#state.regs();
    const instructionBytes = bytes ?? this.#bytesAt(rip);
    const hex = Array.from(instructionBytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return {
      kind: "error",
      detail: `vCPU ${this.index}: ${reason}; RIP 0x${rip.toString(16)}, bytes ${hex}`,
      rip,
      instructionBytes,
    };
  }

  #bytesAt(linear: bigint): Uint8Array {
    const translation = new RootedBuffer(SizeOf.kvm_translation);
    translation.view.setBigUint64(0, linear, true);
    ioctlBuffer(this.#fd, Request.KVM_TRANSLATE, translation, "KVM_TRANSLATE");
    if (translation.bytes[16] === 0) return new Uint8Array();
    return this.#peek(Number(translation.view.getBigUint64(8, true)), MAX_INSTRUCTION);
  }

  /** Halted with interrupts off, or waiting for another processor: only another vCPU could wake it. Only while the guest is stopped. */
  isDead(): boolean {
    const mpState = this.#state.mpState();
    if (mpState === "waitForSipi" || mpState === "initReceived") return true;
    return (
      mpState === "halted" &&
      (this.#state.regs().rflags & RFLAGS_IF) === 0n &&
      !this.#state.events.isNmiPending()
    );
  }

  #assertOpen(what: string): void {
    if (this.#isClosing)
      throw new NorthbridgeError(
        "NB_BACKEND",
        `vCPU ${this.index}: ${what} called after its machine was closed`,
      );
  }

  #assertStopped(what: string): void {
    this.#assertOpen(what);
    if (this.#isPending)
      throw new NorthbridgeError("NB_BACKEND", `vCPU ${this.index}: ${what} called while a run is pending`);
  }
}
