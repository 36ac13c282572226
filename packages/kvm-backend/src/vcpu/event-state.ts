import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import type { KvmVcpuEvents } from "@northbridge/sdk";
import { Event, EventFlag, LapicPage, Request, Shadow, SizeOf } from "../abi/spec.ts";

/** Exceptions and interrupts that one vCPU has pending, or was taking when it stopped. */
export class EventState {
  readonly #fd: number;
  readonly #what: string;
  readonly #events = new RootedBuffer(SizeOf.kvm_vcpu_events);

  constructor(fd: number, what: string) {
    this.#fd = fd;
    this.#what = what;
  }

  isNmiPending(): boolean {
    this.fetch();
    return this.#events.bytes[Event.NMI_PENDING] !== 0;
  }

  /** Makes the guest take an exception at its next entry. */
  injectException(vector: number, error: number | undefined): void {
    this.fetch();
    this.#setException(vector, error);
    this.#set();
  }

  /** Has the guest take an interrupt, which it can take now, at its next entry. */
  injectInterrupt(vector: number): void {
    this.fetch();
    this.#setInterrupt(vector, false);
    // An NMI that another processor has sent since the look stays.
    const { view } = this.#events;
    view.setUint32(Event.FLAGS, view.getUint32(Event.FLAGS, true) & ~EventFlag.NMI_PENDING, true);
    this.#set();
  }

  /**
   * Asks the kernel, which puts what goes with a pending exception where the guest finds it, in CR2 or DR6: those are
   * read afterwards.
   */
  fetch(): void {
    ioctlBuffer(this.#fd, Request.KVM_GET_VCPU_EVENTS, this.#events, `${this.#what}: KVM_GET_VCPU_EVENTS`);
  }

  /**
   * What `fetch` got.
   * @param lapic the local APIC's register page, as it is saved: an interrupt that it has handed out and that was not
   *   delivered is requested again there, where every backend finds it
   */
  decode(lapic: Uint8Array): KvmVcpuEvents {
    const { bytes, view } = this.#events;
    const at = (offset: number): number => bytes[offset] ?? 0;
    const shadow = at(Event.INTERRUPT_SHADOW);
    const vector = at(Event.INTERRUPT_VECTOR);
    const isSoft = at(Event.INTERRUPT_SOFT) !== 0;
    const isCaught = at(Event.INTERRUPT_INJECTED) !== 0;
    const isException = at(Event.EXCEPTION_INJECTED) !== 0 || at(Event.EXCEPTION_PENDING) !== 0;
    return {
      nmiPending: at(Event.NMI_PENDING) !== 0 || at(Event.NMI_INJECTED) !== 0,
      nmiMasked: at(Event.NMI_MASKED) !== 0 && at(Event.NMI_INJECTED) === 0,
      interruptShadow: shadow !== 0,
      movSsShadow: (shadow & Shadow.MOV_SS) !== 0,
      ...(isException && {
        exception: {
          vector: at(Event.EXCEPTION_VECTOR),
          ...(at(Event.EXCEPTION_HAS_ERROR) !== 0 && { error: view.getUint32(Event.EXCEPTION_ERROR, true) }),
        },
      }),
      ...(isCaught && (isSoft || !requestAgain(lapic, vector)) && { interrupt: { vector, isSoft } }),
    };
  }

  load(saved: KvmVcpuEvents): void {
    const { bytes, view } = this.#events;
    const { exception, interrupt } = saved;
    bytes.fill(0);
    bytes[Event.NMI_PENDING] = saved.nmiPending ? 1 : 0;
    bytes[Event.NMI_MASKED] = saved.nmiMasked ? 1 : 0;
    bytes[Event.INTERRUPT_SHADOW] = !saved.interruptShadow
      ? 0
      : saved.movSsShadow === true
        ? Shadow.MOV_SS
        : Shadow.STI;
    if (exception !== undefined) this.#setException(exception.vector, exception.error);
    if (interrupt !== undefined) this.#setInterrupt(interrupt.vector, interrupt.isSoft);
    view.setUint32(Event.FLAGS, EventFlag.NMI_PENDING | EventFlag.SHADOW, true);
    this.#set();
  }

  #setException(vector: number, error: number | undefined): void {
    const { bytes, view } = this.#events;
    bytes[Event.EXCEPTION_INJECTED] = 1;
    bytes[Event.EXCEPTION_VECTOR] = vector;
    bytes[Event.EXCEPTION_HAS_ERROR] = error === undefined ? 0 : 1;
    view.setUint32(Event.EXCEPTION_ERROR, error ?? 0, true);
  }

  #setInterrupt(vector: number, isSoft: boolean): void {
    const { bytes } = this.#events;
    bytes[Event.INTERRUPT_INJECTED] = 1;
    bytes[Event.INTERRUPT_VECTOR] = vector;
    bytes[Event.INTERRUPT_SOFT] = isSoft ? 1 : 0;
  }

  #set(): void {
    ioctlBuffer(this.#fd, Request.KVM_SET_VCPU_EVENTS, this.#events, `${this.#what}: KVM_SET_VCPU_EVENTS`);
  }
}

/** Moves a vector back from in service to requested (SDM 3A §11.8.4). Returns whether the APIC had it in service. */
function requestAgain(lapic: Uint8Array, vector: number): boolean {
  const offset = 16 * (vector >> 5) + ((vector >> 3) & 3);
  const bit = 1 << (vector & 7);
  const inService = lapic[LapicPage.ISR + offset] ?? 0;
  if ((inService & bit) === 0) return false;
  lapic[LapicPage.ISR + offset] = inService & ~bit;
  lapic[LapicPage.IRR + offset] = (lapic[LapicPage.IRR + offset] ?? 0) | bit;
  return true;
}
