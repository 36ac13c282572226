import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import { RestoreError, type VcpuState } from "@northbridge/sdk";
import { decodeRegs, decodeSregs, encodeRegs, encodeSregs } from "../abi/registers.ts";
import { Event, EventFlag, MpState, Msr, Request, Shadow, SizeOf } from "../abi/spec.ts";
import type { MsrAccess } from "./msr-set.ts";

const FXSAVE_BYTES = 512;
/** XSTATE_BV of the XSAVE header (SDM 1 §13.4.2), and its bits for x87 and SSE. */
const XSTATE_BV = 512;
const XSTATE_FXSAVE = 3n;
const DEFAULT_XCR0 = 1n;

/** Some minutes of a counter of 1 to 5 GHz. */
const MOST_TSC_AHEAD = 2n ** 40n;

const MP_STATES: readonly (readonly [number, VcpuState["mpState"]])[] = [
  [MpState.RUNNABLE, "runnable"],
  [MpState.HALTED, "halted"],
  [MpState.UNINITIALIZED, "waitForSipi"],
  [MpState.INIT_RECEIVED, "initReceived"],
];

const toBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

function fromBase64(what: string, text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  if (bytes.length !== length)
    throw new RestoreError(what, `expected ${length} bytes of base64, found ${bytes.length}`);
  return bytes;
}

/** The kernel's view of one vCPU's registers. Legal only while the vCPU is not in the guest. */
export class StateAccess {
  readonly #fd: number;
  readonly #what: string;
  readonly #msrs: MsrAccess;
  readonly #savable: readonly number[];
  readonly #regs = new RootedBuffer(SizeOf.kvm_regs);
  readonly #sregs = new RootedBuffer(SizeOf.kvm_sregs);
  readonly #xsave = new RootedBuffer(SizeOf.kvm_xsave);
  readonly #xcrs = new RootedBuffer(SizeOf.kvm_xcrs);
  readonly #lapic = new RootedBuffer(SizeOf.kvm_lapic_state);
  readonly #events = new RootedBuffer(SizeOf.kvm_vcpu_events);
  readonly #debug = new RootedBuffer(SizeOf.kvm_debugregs);
  readonly #mp = new RootedBuffer(SizeOf.kvm_mp_state);

  /** @param deps.savable what `findSavableMsrs` found */
  constructor(deps: {
    readonly fd: number;
    readonly index: number;
    readonly msrs: MsrAccess;
    readonly savable: readonly number[];
  }) {
    this.#fd = deps.fd;
    this.#what = `vCPU ${deps.index}`;
    this.#msrs = deps.msrs;
    this.#savable = deps.savable;
  }

  regs(): VcpuState["regs"] {
    this.#call("KVM_GET_REGS", this.#regs);
    return decodeRegs(this.#regs.view);
  }

  setRegs(regs: VcpuState["regs"]): void {
    encodeRegs(this.#regs.view, regs);
    this.#call("KVM_SET_REGS", this.#regs);
  }

  mpState(): VcpuState["mpState"] {
    this.#call("KVM_GET_MP_STATE", this.#mp);
    const number = this.#mp.view.getUint32(0, true);
    return MP_STATES.find(([value]) => value === number)?.[1] ?? "runnable";
  }

  isNmiPending(): boolean {
    this.#call("KVM_GET_VCPU_EVENTS", this.#events);
    return this.#events.bytes[Event.NMI_PENDING] !== 0;
  }

  /** The guest's time-stamp counter, now. */
  tsc(): bigint {
    return this.#msrs.read(Msr.IA32_TSC) ?? 0n;
  }

  /** Makes the guest take an exception at its next entry. */
  injectException(vector: number, error: number | undefined): void {
    this.#call("KVM_GET_VCPU_EVENTS", this.#events);
    const { bytes, view } = this.#events;
    bytes[Event.EXCEPTION_INJECTED] = 1;
    bytes[Event.EXCEPTION_VECTOR] = vector;
    bytes[Event.EXCEPTION_HAS_ERROR] = error === undefined ? 0 : 1;
    view.setUint32(Event.EXCEPTION_ERROR, error ?? 0, true);
    this.#call("KVM_SET_VCPU_EVENTS", this.#events);
  }

  save(): VcpuState {
    this.#call("KVM_GET_SREGS", this.#sregs);
    this.#call("KVM_GET_XSAVE", this.#xsave);
    this.#call("KVM_GET_XCRS", this.#xcrs);
    this.#call("KVM_GET_LAPIC", this.#lapic);
    this.#call("KVM_GET_DEBUGREGS", this.#debug);
    this.#call("KVM_GET_VCPU_EVENTS", this.#events);
    const debug = (index: number): bigint => this.#debug.view.getBigUint64(8 * index, true);
    const events = this.#events.bytes;
    const tsc = this.tsc();
    const deadline = this.#msrs.read(Msr.IA32_TSC_DEADLINE);
    return {
      version: 1,
      regs: this.regs(),
      sregs: decodeSregs(this.#sregs.view),
      fxsave: toBase64(this.#xsave.bytes.subarray(0, FXSAVE_BYTES)),
      xcr0: this.#xcrs.view.getUint32(0, true) > 0 ? this.#xcrs.view.getBigUint64(16, true) : DEFAULT_XCR0,
      msrs: [
        [Msr.IA32_TSC, tsc] as const,
        ...this.#savable.map((index) => [index, this.#msrs.read(index) ?? 0n] as const),
        ...(deadline === undefined ? [] : [[Msr.IA32_TSC_DEADLINE, deadline] as const]),
      ],
      lapic: toBase64(this.#lapic.bytes),
      events: {
        nmiPending: events[Event.NMI_PENDING] !== 0,
        nmiMasked: events[Event.NMI_MASKED] !== 0,
        interruptShadow: events[Event.INTERRUPT_SHADOW] !== 0,
        movSsShadow: ((events[Event.INTERRUPT_SHADOW] ?? 0) & Shadow.MOV_SS) !== 0,
      },
      debugregs: { db: [debug(0), debug(1), debug(2), debug(3)], dr6: debug(4), dr7: debug(5) },
      mpState: this.mpState(),
      tsc,
    };
  }

  /** Throws `NB_RESTORE` naming what this KVM does not take. */
  load(state: VcpuState): void {
    if ((state.version as number) !== 1)
      throw new RestoreError(this.#what, `expected version 1, found ${String(state.version)}`);
    const fxsave = fromBase64(`${this.#what}: fxsave`, state.fxsave, FXSAVE_BYTES);
    const lapic = fromBase64(`${this.#what}: lapic`, state.lapic, SizeOf.kvm_lapic_state);
    this.setRegs(state.regs);
    this.#loadExtended(fxsave, state.xcr0);
    encodeSregs(this.#sregs.view, state.sregs);
    this.#call("KVM_SET_SREGS", this.#sregs);
    this.#loadMsrs(state);
    this.#mp.view.setUint32(0, MP_STATES.find(([, name]) => name === state.mpState)?.[0] ?? 0, true);
    this.#call("KVM_SET_MP_STATE", this.#mp);
    this.#lapic.bytes.set(lapic);
    this.#call("KVM_SET_LAPIC", this.#lapic);
    this.#loadEvents(state.events);
    const { db, dr6, dr7 } = state.debugregs;
    [...db, dr6, dr7].forEach((value, i) => {
      this.#debug.view.setBigUint64(8 * i, value, true);
    });
    this.#call("KVM_SET_DEBUGREGS", this.#debug);
    // The timer counts from the register page just loaded.
    const deadline = state.msrs.find(([index]) => index === Msr.IA32_TSC_DEADLINE);
    if (deadline !== undefined && deadline[1] !== 0n) this.#msrs.write(...deadline);
  }

  #loadExtended(fxsave: Uint8Array, xcr0: bigint): void {
    this.#call("KVM_GET_XCRS", this.#xcrs);
    if (this.#xcrs.view.getUint32(0, true) > 0 && this.#xcrs.view.getBigUint64(16, true) !== xcr0) {
      this.#xcrs.view.setBigUint64(16, xcr0, true);
      this.#call("KVM_SET_XCRS", this.#xcrs);
    }
    this.#call("KVM_GET_XSAVE", this.#xsave);
    // Bytes 464–511 are software's: KVM keeps its own description of the image there.
    this.#xsave.bytes.set(fxsave.subarray(0, 464));
    this.#xsave.view.setBigUint64(XSTATE_BV, XSTATE_FXSAVE, true);
    this.#call("KVM_SET_XSAVE", this.#xsave);
  }

  /** An MSR that this KVM does not take is an error, unless it already says the same or would say nothing. */
  #loadMsrs(state: VcpuState): void {
    const refused: string[] = [];
    for (const [index, value] of state.msrs) {
      if (index === Msr.IA32_TSC_DEADLINE || index === Msr.IA32_TSC || this.#msrs.write(index, value))
        continue;
      if (value !== 0n && this.#msrs.read(index) !== value)
        refused.push(`0x${index.toString(16)} = 0x${value.toString(16)}`);
    }
    if (refused.length > 0) throw new RestoreError(this.#what, `KVM refuses MSRs ${refused.join(", ")}`);
    this.#loadTsc(state.tsc);
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

  #loadEvents(saved: VcpuState["events"]): void {
    const { bytes, view } = this.#events;
    bytes.fill(0);
    bytes[Event.NMI_PENDING] = saved.nmiPending ? 1 : 0;
    bytes[Event.NMI_MASKED] = saved.nmiMasked ? 1 : 0;
    bytes[Event.INTERRUPT_SHADOW] = !saved.interruptShadow
      ? 0
      : saved.movSsShadow === true
        ? Shadow.MOV_SS
        : Shadow.STI;
    view.setUint32(Event.FLAGS, EventFlag.NMI_PENDING | EventFlag.SHADOW, true);
    this.#call("KVM_SET_VCPU_EVENTS", this.#events);
  }

  #call(request: keyof typeof Request, buffer: RootedBuffer): void {
    ioctlBuffer(this.#fd, Request[request], buffer, `${this.#what}: ${request}`);
  }
}
