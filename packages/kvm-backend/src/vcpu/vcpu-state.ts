import { ioctlBuffer, ioctlUnchecked, RootedBuffer } from "@northbridge/linux";
import { checkVcpuState, NorthbridgeError, RestoreError, type VcpuState } from "@northbridge/sdk";
import { decodeRegs, decodeSregs, encodeRegs, encodeSregs } from "../abi/registers.ts";
import { ApicBase, LapicPage, MpState, Msr, Request, SizeOf } from "../abi/spec.ts";
import { fromBase64, toBase64 } from "./base64.ts";
import { EventState } from "./event-state.ts";
import { ExtendedState } from "./extended-state.ts";
import { findSavableMsrs, type MsrAccess } from "./msr-set.ts";
import { TscOffset } from "./tsc-offset.ts";

/** Some minutes of a counter of 1 to 5 GHz. */
const MOST_TSC_AHEAD = 2n ** 40n;

const MP_STATES: readonly (readonly [number, VcpuState["mpState"]])[] = [
  [MpState.RUNNABLE, "runnable"],
  [MpState.HALTED, "halted"],
  [MpState.UNINITIALIZED, "waitForSipi"],
  [MpState.INIT_RECEIVED, "initReceived"],
];

/** The kernel's view of one vCPU's registers. Legal only while the vCPU is not in the guest. */
export class StateAccess {
  readonly #fd: number;
  readonly #what: string;
  readonly #msrs: MsrAccess;
  readonly #listed: readonly number[];
  #savable: readonly number[];
  readonly #extended: ExtendedState;
  readonly events: EventState;
  readonly #hasLocalApic: boolean;
  readonly #tscOffset: TscOffset;
  /** The time-stamp counter while guest time stands still. */
  #heldTsc: bigint | undefined;
  /** Waits for an interrupt. For processors without a local APIC, of which the kernel does not keep that. */
  isHalted = false;
  readonly #regs = new RootedBuffer(SizeOf.kvm_regs);
  readonly #sregs = new RootedBuffer(SizeOf.kvm_sregs);
  readonly #lapic = new RootedBuffer(SizeOf.kvm_lapic_state);
  readonly #debug = new RootedBuffer(SizeOf.kvm_debugregs);
  readonly #mp = new RootedBuffer(SizeOf.kvm_mp_state);

  /** @param deps.listed what `listMsrs` found */
  constructor(deps: {
    readonly fd: number;
    readonly index: number;
    readonly msrs: MsrAccess;
    readonly listed: readonly number[];
    readonly xsaveBytes: number;
    readonly hasLocalApic: boolean;
  }) {
    this.#fd = deps.fd;
    this.#hasLocalApic = deps.hasLocalApic;
    this.#tscOffset = new TscOffset(deps.fd);
    this.#what = `vCPU ${deps.index}`;
    this.#msrs = deps.msrs;
    this.#listed = deps.listed;
    this.#savable = findSavableMsrs(deps.listed, deps.msrs);
    this.#extended = new ExtendedState(deps.fd, this.#what, deps.xsaveBytes);
    this.events = new EventState(deps.fd, this.#what);
    if (!deps.hasLocalApic) this.#switchLocalApicOff(deps.index);
  }

  /** Has CPUID and IA32_APIC_BASE say that there is none: a new vCPU of KVM's has one that is on. */
  #switchLocalApicOff(index: number): void {
    putDisabledApic(this.#lapic.view, index);
    this.#call("KVM_GET_SREGS", this.#sregs);
    const sregs = decodeSregs(this.#sregs.view);
    encodeSregs(this.#sregs.view, { ...sregs, apicBase: sregs.apicBase & ~ApicBase.ENABLED });
    this.#call("KVM_SET_SREGS", this.#sregs);
  }

  /** CPUID is another one, and MSRs come and go with it. Returns what of a state is still there. */
  processorChanged(state: VcpuState): VcpuState {
    this.#savable = findSavableMsrs(this.#listed, this.#msrs);
    const isThere = new Set([...this.#savable, Msr.IA32_TSC, Msr.IA32_TSC_DEADLINE]);
    return { ...state, msrs: state.msrs.filter(([index]) => isThere.has(index)) };
  }

  regs(): VcpuState["regs"] {
    this.#call("KVM_GET_REGS", this.#regs);
    return decodeRegs(this.#regs.view);
  }

  setRegs(regs: VcpuState["regs"]): void {
    encodeRegs(this.#regs.view, regs);
    this.#call("KVM_SET_REGS", this.#regs);
  }

  /**
   * Hands over an interrupt that a controller outside of the kernel acknowledged, as one whose delivery has begun: what
   * `KVM_INTERRUPT` takes beside local APICs in the kernel is in no state that could be saved.
   */
  injectInterrupt(vector: number): void {
    this.events.injectInterrupt(vector);
    // Such a one wakes no processor in the kernel.
    if (this.#hasLocalApic && this.mpState() === "halted") this.#setMpState("runnable");
  }

  mpState(): VcpuState["mpState"] {
    if (this.isHalted) return "halted";
    this.#call("KVM_GET_MP_STATE", this.#mp);
    const number = this.#mp.view.getUint32(0, true);
    const known = MP_STATES.find(([value]) => value === number);
    if (known === undefined)
      throw new NorthbridgeError("NB_BACKEND", `${this.#what}: unknown KVM_GET_MP_STATE ${number}`);
    return known[1];
  }

  #setMpState(state: VcpuState["mpState"]): void {
    this.#mp.view.setUint32(0, MP_STATES.find(([, name]) => name === state)?.[0] ?? MpState.RUNNABLE, true);
    this.#call("KVM_SET_MP_STATE", this.#mp);
  }

  /** The guest's time-stamp counter: now, or when guest time was stopped. */
  tsc(): bigint {
    return this.#heldTsc ?? this.#readMsr(Msr.IA32_TSC);
  }

  /** Guest time stops. */
  holdTsc(): void {
    this.#heldTsc ??= this.#readMsr(Msr.IA32_TSC);
  }

  /** How far the counter has gone on since guest time stopped. */
  tscLag(): bigint {
    return this.#heldTsc === undefined ? 0n : this.#readMsr(Msr.IA32_TSC) - this.#heldTsc;
  }

  /** Guest time goes on. @param lag what the counter is moved back by, where this KVM can */
  releaseTsc(lag: bigint): void {
    if (this.#heldTsc === undefined) return;
    this.#heldTsc = undefined;
    if (lag !== 0n && this.#tscOffset.move(-lag)) {
      const deadline = this.#msrs.read(Msr.IA32_TSC_DEADLINE);
      if (deadline !== undefined && deadline !== 0n) this.#msrs.write(Msr.IA32_TSC_DEADLINE, deadline);
    }
    // Tells the guest's watchdogs that it was stopped; refused where it does not use kvm-clock.
    ioctlUnchecked(this.#fd, Request.KVM_KVMCLOCK_CTRL, 0);
  }

  /**
   * In this order: KVM takes a pending INIT or SIPI when it is asked for the MP state, and what goes with a pending
   * exception goes to CR2 and DR6 when it is asked for events.
   */
  save(): VcpuState {
    const mpState = this.mpState();
    this.events.fetch();
    if (this.#hasLocalApic) this.#call("KVM_GET_LAPIC", this.#lapic);
    this.#call("KVM_GET_SREGS", this.#sregs);
    this.#call("KVM_GET_DEBUGREGS", this.#debug);
    const debug = (index: number): bigint => this.#debug.view.getBigUint64(8 * index, true);
    const events = this.events.decode(this.#lapic.bytes);
    const tsc = this.tsc();
    const deadline = this.#msrs.read(Msr.IA32_TSC_DEADLINE);
    return {
      version: 1,
      regs: this.regs(),
      sregs: decodeSregs(this.#sregs.view),
      ...this.#extended.save(),
      msrs: [
        [Msr.IA32_TSC, tsc] as const,
        ...this.#savable.map((index) => [index, this.#readMsr(index)] as const),
        ...(deadline === undefined ? [] : [[Msr.IA32_TSC_DEADLINE, deadline] as const]),
      ],
      lapic: toBase64(this.#lapic.bytes),
      events,
      debugregs: { db: [debug(0), debug(1), debug(2), debug(3)], dr6: debug(4), dr7: debug(5) },
      mpState,
      tsc,
    };
  }

  #readMsr(index: number): bigint {
    const value = this.#msrs.read(index);
    if (value === undefined)
      throw new NorthbridgeError("NB_BACKEND", `${this.#what}: cannot read MSR 0x${index.toString(16)}`);
    return value;
  }

  /** Throws `NB_RESTORE` naming what this KVM does not take. */
  load(state: VcpuState): void {
    checkVcpuState(this.#what, state);
    const lapic = fromBase64(`${this.#what}: lapic`, state.lapic, SizeOf.kvm_lapic_state);
    if (!this.#hasLocalApic && (state.sregs.apicBase & ApicBase.ENABLED) !== 0n)
      throw new RestoreError(
        this.#what,
        `expected a processor whose local APIC is off, as there is none here, found sregs.apicBase 0x${state.sregs.apicBase.toString(16)}`,
      );
    this.setRegs(state.regs);
    this.#extended.load(state);
    encodeSregs(this.#sregs.view, state.sregs);
    this.#call("KVM_SET_SREGS", this.#sregs);
    this.#loadMsrs(state);
    if (this.#hasLocalApic) {
      this.#setMpState(state.mpState);
      this.#lapic.bytes.set(lapic);
      // Where the count is over KVM begins it anew, at once: it cannot tell that its interrupt was delivered.
      const isTimerStill =
        state.lapicRemainder !== undefined && state.lapicRemainder.timerLeftNs === undefined;
      if (isTimerStill) this.#lapic.view.setUint32(LapicPage.INITIAL_COUNT, 0, true);
      this.#call("KVM_SET_LAPIC", this.#lapic);
    } else this.isHalted = state.mpState === "halted";
    this.events.load(state.events);
    const { db, dr6, dr7 } = state.debugregs;
    [...db, dr6, dr7].forEach((value, i) => {
      this.#debug.view.setBigUint64(8 * i, value, true);
    });
    this.#call("KVM_SET_DEBUGREGS", this.#debug);
    // The timer counts from the register page just loaded.
    const deadline = state.msrs.find(([index]) => index === Msr.IA32_TSC_DEADLINE);
    if (deadline !== undefined && deadline[1] !== 0n) this.#msrs.write(...deadline);
  }

  /** An MSR that this KVM does not take is an error, unless it already says the same, or is not there to say anything. */
  #loadMsrs(state: VcpuState): void {
    const refused: string[] = [];
    for (const [index, value] of state.msrs) {
      if (index === Msr.IA32_TSC_DEADLINE || index === Msr.IA32_TSC || this.#msrs.write(index, value))
        continue;
      const found = this.#msrs.read(index);
      if (found !== value && (value !== 0n || found !== undefined))
        refused.push(`0x${index.toString(16)} = 0x${value.toString(16)}`);
    }
    if (refused.length > 0) throw new RestoreError(this.#what, `KVM refuses MSRs ${refused.join(", ")}`);
    this.#loadTsc(state.tsc);
    if (this.#heldTsc !== undefined) this.#heldTsc = state.tsc;
  }

  /**
   * Where KVM has no processor's help, guests read the host's counter as it is. What is ahead by minutes at most is as
   * if the machine had been suspended; anything else, and the guest's clocks break.
   */
  #loadTsc(tsc: bigint): void {
    this.#msrs.write(Msr.IA32_TSC, tsc);
    const found = this.#msrs.read(Msr.IA32_TSC) ?? tsc;
    if (found < tsc || found > tsc + MOST_TSC_AHEAD)
      throw new RestoreError(
        this.#what,
        `this KVM does not set the time-stamp counter: expected ${tsc}, found ${found}`,
      );
  }

  #call(request: keyof typeof Request, buffer: RootedBuffer): void {
    ioctlBuffer(this.#fd, Request[request], buffer, `${this.#what}: ${request}`);
  }
}

/** The registers of a local APIC that is off (SDM 3A §11.4.7.1), for who has one. */
function putDisabledApic(page: DataView, id: number): void {
  page.setUint32(LapicPage.ID, (id << 24) >>> 0, true);
  page.setUint32(LapicPage.VERSION, 0x50014, true);
  page.setUint32(LapicPage.DFR, 0xffffffff, true);
  page.setUint32(LapicPage.SVR, 0xff, true);
  for (let at: number = LapicPage.LVT_FIRST; at <= LapicPage.LVT_LAST; at += 16)
    page.setUint32(at, 1 << 16, true);
}
