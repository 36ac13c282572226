import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import { GuestDebug, Request, SizeOf } from "../abi/spec.ts";

const MAX_BREAKPOINTS = 4;
/** Where `kvm_guest_debug` has the debug registers. */
const DEBUG_REGISTERS = 8;
/** DR7 (SDM 3B §18.2.4): bit 10 is always set, bits 2n+1 are the global enables; type and length 0 are execution. */
const Dr7 = { ALWAYS: 0x400n, GLOBAL_0: 2n, BITS_EACH: 2 } as const;

interface Wanted {
  readonly singleStep: boolean;
  readonly breakpoints: readonly bigint[];
}

const OFF: Wanted = { singleStep: false, breakpoints: [] };

/** Single step and breakpoints of one vCPU. Legal only while it is not in the guest. */
export class Debugging {
  readonly #fd: number;
  readonly #what: string;
  /** `GuestDebug.BLOCKIRQ`, where this KVM has it. */
  readonly #blockIrq: number;
  #wanted: Wanted = OFF;
  /** The guest executes the instruction of a breakpoint, before others are there again. */
  #isSteppingOff = false;

  /** @param flags of `kvm_guest_debug` that this KVM takes */
  constructor(fd: number, what: string, flags: number) {
    this.#fd = fd;
    this.#what = what;
    this.#blockIrq = flags & GuestDebug.BLOCKIRQ;
  }

  /** What the guest is stopped for, `undefined` for nothing. Throws `NB_BACKEND` for more than there are registers for. */
  want(debug: { readonly singleStep?: boolean; readonly breakpoints?: readonly bigint[] } | undefined): void {
    const { singleStep = false, breakpoints = [] } = debug ?? OFF;
    if (breakpoints.length > MAX_BREAKPOINTS)
      throw new NorthbridgeError(
        "NB_BACKEND",
        `${this.#what}: KVM has ${MAX_BREAKPOINTS} breakpoints, found ${breakpoints.length}`,
      );
    this.#wanted = { singleStep, breakpoints };
  }

  /** Tells KVM what is wanted: now, or once the guest has stepped off its breakpoint. */
  apply(): void {
    if (!this.#isSteppingOff) this.#set(this.#wanted);
  }

  /** A breakpoint is before its instruction: going on from one executes that instruction first. */
  beginStepOff(rip: () => bigint): void {
    const { singleStep, breakpoints } = this.#wanted;
    if (singleStep || breakpoints.length === 0 || !breakpoints.includes(rip())) return;
    this.#isSteppingOff = true;
    // An interrupt would come first, and end in front of the breakpoint again.
    this.#set({ singleStep: true, breakpoints: [] }, this.#blockIrq);
  }

  /** The instruction is executed, or the run ends before. Returns whether there was one. */
  endStepOff(): boolean {
    if (!this.#isSteppingOff) return false;
    this.#isSteppingOff = false;
    this.#set(this.#wanted);
    return true;
  }

  #set({ singleStep, breakpoints }: Wanted, flags = 0): void {
    const buffer = new RootedBuffer(SizeOf.kvm_guest_debug);
    const isOn = singleStep || breakpoints.length > 0;
    const control =
      flags |
      (isOn ? GuestDebug.ENABLE : 0) |
      (singleStep ? GuestDebug.SINGLESTEP : 0) |
      (breakpoints.length > 0 ? GuestDebug.USE_HW_BP : 0);
    buffer.view.setUint32(0, control, true);
    let dr7: bigint = Dr7.ALWAYS;
    breakpoints.forEach((address, i) => {
      buffer.view.setBigUint64(DEBUG_REGISTERS + 8 * i, address, true);
      dr7 |= Dr7.GLOBAL_0 << BigInt(Dr7.BITS_EACH * i);
    });
    buffer.view.setBigUint64(DEBUG_REGISTERS + 8 * 7, dr7, true);
    ioctlBuffer(this.#fd, Request.KVM_SET_GUEST_DEBUG, buffer, `${this.#what}: KVM_SET_GUEST_DEBUG`);
  }
}
