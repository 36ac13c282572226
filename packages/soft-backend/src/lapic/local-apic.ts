import type { DrivenClock, LocalApicRemainder } from "@northbridge/sdk";
import { type Address, isAddressed } from "./destination.ts";
import { LvtTimer } from "./lvt-timer.ts";
import type { LocalApicPins } from "./pins.ts";
import { hasVector, highestVector, isReadable, setVector } from "./register-page.ts";
import {
  ApicBase,
  DeliveryMode,
  Esr,
  Icr,
  Lvt,
  LvtWritable,
  Reg,
  SAVED_PAGE_BYTES,
  Svr,
  VERSION_VALUE,
} from "./spec.ts";
import type { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";

/**
 * One processor's local APIC in xAPIC and x2APIC mode (Intel SDM 3A §11). Not modelled: SMI, CMCI, the APIC
 * bus arbitration of the P6, EOI-broadcast suppression, LINT1 wiring other than by software.
 */
export class LocalApic implements Address {
  /** Initial APIC id: the index of the processor. */
  readonly id: number;
  readonly #pins: LocalApicPins;
  readonly #timer: LvtTimer;
  /** Register page: one word per 16 bytes. */
  readonly #regs: Uint32Array = new Uint32Array(SAVED_PAGE_BYTES / 16);
  #base: number = ApicBase.DEFAULT;
  #baseHigh = 0;
  #pendingErrors = 0;

  constructor(deps: {
    readonly id: number;
    readonly clock: DrivenClock;
    readonly tsc: TimeStampCounter;
    readonly pins: LocalApicPins;
  }) {
    this.id = deps.id;
    this.#pins = deps.pins;
    this.#timer = new LvtTimer({
      clock: deps.clock,
      tsc: deps.tsc,
      expired: () => {
        const lvt = this.#reg(Reg.LVT_TIMER);
        if ((lvt & Lvt.MASKED) === 0) this.#request(lvt & Lvt.VECTOR, false);
      },
    });
    this.reset();
  }

  /** Power-on state; as after firmware, processor 0 takes the 8259s' interrupt on LINT0 (as KVM does). */
  reset(): void {
    this.#base = (ApicBase.DEFAULT | ApicBase.ENABLED | (this.id === 0 ? ApicBase.BSP : 0)) >>> 0;
    this.#baseHigh = 0;
    this.#resetRegisters();
  }

  /** INIT: everything but IA32_APIC_BASE and the id (SDM 3A §11.4.7.3). */
  init(): void {
    this.#resetRegisters();
  }

  #resetRegisters(): void {
    this.#timer.reset();
    this.#pendingErrors = 0;
    const regs = this.#regs;
    regs.fill(0);
    regs[Reg.ID >> 4] = this.isX2apic ? this.id : (this.id << 24) >>> 0;
    regs[Reg.VERSION >> 4] = VERSION_VALUE;
    regs[Reg.DFR >> 4] = 0xffff_ffff;
    regs[Reg.SVR >> 4] = 0xff;
    for (let offset: number = Reg.LVT_TIMER; offset <= Reg.LVT_ERROR; offset += 16)
      regs[offset >> 4] = Lvt.MASKED;
    regs[Reg.LVT_CMCI >> 4] = Lvt.MASKED;
    if (this.id === 0) regs[Reg.LVT_LINT0 >> 4] = DeliveryMode.EXT_INT << 8;
    if (this.isX2apic) this.#deriveX2apicLdr();
    this.#pins.taskPriorityChanged(0);
    this.#pins.interruptChanged();
  }

  get isEnabled(): boolean {
    return (this.#base & ApicBase.ENABLED) !== 0;
  }

  get isX2apic(): boolean {
    return (this.#base & (ApicBase.ENABLED | ApicBase.X2APIC)) === (ApicBase.ENABLED | ApicBase.X2APIC);
  }

  get #softwareEnabled(): boolean {
    return this.isEnabled && (this.#reg(Reg.SVR) & Svr.ENABLED) !== 0;
  }

  /** Page number of the MMIO window, or −1 while there is none. */
  get mmioPage(): number {
    if (!this.isEnabled || this.isX2apic) return -1;
    return (this.#base >>> 12) + this.#baseHigh * 0x10_0000;
  }

  get baseLow(): number {
    return this.#base;
  }

  get baseHigh(): number {
    return this.#baseHigh;
  }

  /** Writes IA32_APIC_BASE. False where the transition is illegal (#GP; SDM 3A §11.12.5). */
  writeBase(low: number, high: number): boolean {
    if ((low & 0x2ff) !== 0 || high > 0xff) return false;
    const next = low & (ApicBase.ENABLED | ApicBase.X2APIC);
    const now = this.#base & (ApicBase.ENABLED | ApicBase.X2APIC);
    const both = ApicBase.ENABLED | ApicBase.X2APIC;
    if (
      next === ApicBase.X2APIC ||
      (now === both && next === ApicBase.ENABLED) ||
      (now === 0 && next === both)
    )
      return false;
    this.adoptBase(((low & ~ApicBase.BSP) | (this.#base & ApicBase.BSP)) >>> 0, high);
    return true;
  }

  /** Takes IA32_APIC_BASE over without a check: `restore` and `writeBase`. */
  adoptBase(low: number, high: number): void {
    const was = this.#base & (ApicBase.ENABLED | ApicBase.X2APIC);
    this.#base = low >>> 0;
    this.#baseHigh = high;
    const now = this.#base & (ApicBase.ENABLED | ApicBase.X2APIC);
    if (was === now) return;
    if (this.isX2apic) {
      this.#regs[Reg.ID >> 4] = this.id;
      this.#deriveX2apicLdr();
    } else {
      this.#regs[Reg.ID >> 4] = (this.id << 24) >>> 0;
      if (!this.isEnabled) this.#resetRegisters();
    }
    this.#pins.interruptChanged();
  }

  #deriveX2apicLdr(): void {
    this.#regs[Reg.LDR >> 4] = (((this.id >> 4) << 16) | (1 << (this.id & 15))) >>> 0;
  }

  #reg(offset: number): number {
    return this.#regs[offset >> 4] ?? 0;
  }

  // --- delivery ---------------------------------------------------------------------------------

  /** Whether a message for `destination` is for this APIC (SDM 3A §11.6.2). */
  matches(destination: number, logical: boolean, fromX2apic: boolean): boolean {
    if (!this.isEnabled) return false;
    return isAddressed(this, destination, logical, fromX2apic);
  }

  get physicalId(): number {
    return this.isX2apic ? this.id : this.#reg(Reg.ID) >>> 24;
  }

  get ldr(): number {
    return this.#reg(Reg.LDR);
  }

  get dfr(): number {
    return this.#reg(Reg.DFR);
  }

  /** For lowest-priority arbitration: smaller is preferred. */
  get arbitrationPriority(): number {
    return this.processorPriority;
  }

  get acceptsFixed(): boolean {
    return this.#softwareEnabled;
  }

  /** A message that `matches`. */
  receive(mode: number, vector: number, isLevel: boolean): void {
    switch (mode) {
      case DeliveryMode.FIXED:
      case DeliveryMode.LOWEST_PRIORITY:
        this.#request(vector, isLevel);
        break;
      case DeliveryMode.NMI:
        this.#pins.nmi();
        break;
      case DeliveryMode.INIT:
        this.#pins.init();
        break;
      case DeliveryMode.SIPI:
        this.#pins.startUp(vector);
        break;
      default:
        break; // SMI: there is no system management mode
    }
  }

  #request(vector: number, isLevel: boolean): void {
    if (!this.#softwareEnabled) return;
    if (vector < 16) {
      this.#error(Esr.RECEIVE_ILLEGAL_VECTOR);
      return;
    }
    setVector(this.#regs, Reg.TMR, vector, isLevel);
    setVector(this.#regs, Reg.IRR, vector, true);
    this.#pins.interruptChanged();
  }

  /** PPR (SDM 3A §11.8.3.1). */
  get processorPriority(): number {
    const tpr = this.#reg(Reg.TPR);
    const isr = highestVector(this.#regs, Reg.ISR);
    const inService = isr < 0 ? 0 : isr & 0xf0;
    return (tpr & 0xf0) >= inService ? tpr : inService;
  }

  /** Whether a vector of a class above the processor priority waits. */
  get hasInterrupt(): boolean {
    if (!this.#softwareEnabled) return false;
    const irr = highestVector(this.#regs, Reg.IRR);
    return irr >= 0 && (irr & 0xf0) > (this.processorPriority & 0xf0);
  }

  /** Whether the 8259 pair's output reaches the processor (LINT0 in ExtINT mode, or the APIC is off). */
  get acceptsExtInt(): boolean {
    if (!this.isEnabled) return true;
    const lint0 = this.#reg(Reg.LVT_LINT0);
    return (lint0 & Lvt.MASKED) === 0 && (lint0 & Lvt.MODE) >> 8 === DeliveryMode.EXT_INT;
  }

  /** The processor takes the highest interrupt: its vector, now in service, or −1. */
  acknowledge(): number {
    if (!this.hasInterrupt) return -1;
    const vector = highestVector(this.#regs, Reg.IRR);
    setVector(this.#regs, Reg.IRR, vector, false);
    setVector(this.#regs, Reg.ISR, vector, true);
    this.#pins.interruptChanged();
    return vector;
  }

  /** An edge on LINT0 (the 8259 pair) or LINT1, for modes other than ExtINT. */
  localEdge(pin: 0 | 1): void {
    const lvt = this.#reg(pin === 0 ? Reg.LVT_LINT0 : Reg.LVT_LINT1);
    if (!this.isEnabled || (lvt & Lvt.MASKED) !== 0) return;
    const mode = (lvt & Lvt.MODE) >> 8;
    if (mode !== DeliveryMode.EXT_INT)
      this.receive(mode, lvt & Lvt.VECTOR, mode === DeliveryMode.FIXED && (lvt & Lvt.LEVEL) !== 0);
  }

  #error(bit: number): void {
    const isNew = (this.#pendingErrors & bit) === 0;
    this.#pendingErrors |= bit;
    const lvt = this.#reg(Reg.LVT_ERROR);
    if (isNew && (lvt & Lvt.MASKED) === 0 && (lvt & Lvt.VECTOR) >= 16) this.#request(lvt & Lvt.VECTOR, false);
  }

  // --- registers --------------------------------------------------------------------------------

  /** A read inside the MMIO page. */
  readMmio(offset: number, width: number): number {
    if ((offset & 0xc) !== 0) return 0;
    const value = this.#read(offset & 0xff0) >>> ((offset & 3) * 8);
    return width === 4 ? value : value & (width === 2 ? 0xffff : 0xff);
  }

  /** A write inside the MMIO page. Only aligned 32-bit accesses do anything (SDM 3A §11.4.1). */
  writeMmio(offset: number, width: number, value: number): void {
    if ((offset & 0xf) !== 0 || width !== 4) return;
    if (offset === Reg.ICR_HIGH) this.#regs[Reg.ICR_HIGH >> 4] = value & 0xff00_0000;
    else if (offset === Reg.ICR) this.#command(value, this.#reg(Reg.ICR_HIGH) >>> 24);
    else if (offset === Reg.ID) this.#regs[Reg.ID >> 4] = value & 0xff00_0000;
    else if (offset === Reg.LDR) this.#regs[Reg.LDR >> 4] = value & 0xff00_0000;
    else if (offset === Reg.DFR) this.#regs[Reg.DFR >> 4] = value | 0x0fff_ffff;
    else if (!this.#write(offset, value)) this.#error(Esr.ILLEGAL_REGISTER);
  }

  /** Low half of x2APIC register `offset`, or −1 for #GP. */
  readX2apic(offset: number): number {
    if (
      !this.isX2apic ||
      offset === Reg.DFR ||
      offset === Reg.ICR_HIGH ||
      offset === Reg.EOI ||
      offset === Reg.SELF_IPI
    )
      return -1;
    if (!isReadable(offset) || offset === Reg.APR || offset === Reg.RRD) return -1;
    return this.#read(offset);
  }

  /** High half of the one 64-bit register, ICR. */
  readX2apicHigh(offset: number): number {
    return offset === Reg.ICR ? this.#reg(Reg.ICR_HIGH) : 0;
  }

  /** False for #GP (SDM 3A §11.12.1). */
  writeX2apic(offset: number, low: number, high: number): boolean {
    if (!this.isX2apic) return false;
    if (offset === Reg.ICR) {
      this.#regs[Reg.ICR_HIGH >> 4] = high;
      this.#command(low, high >>> 0);
      return true;
    }
    if (high !== 0) return false;
    if (offset === Reg.SELF_IPI) {
      if (low > 0xff) return false;
      if (low < 16) this.#error(Esr.SEND_ILLEGAL_VECTOR);
      else this.#request(low, false);
      return true;
    }
    if ((offset === Reg.EOI || offset === Reg.ESR) && low !== 0) return false;
    if (offset === Reg.TPR && low > 0xff) return false;
    return this.#write(offset, low);
  }

  /** CR8 of the processor: bits 7–4 of the task priority. */
  setTaskPriority(cr8: number): void {
    this.#regs[Reg.TPR >> 4] = (cr8 & 0xf) << 4;
    this.#pins.interruptChanged();
  }

  get cr8(): number {
    return this.#reg(Reg.TPR) >> 4;
  }

  #read(offset: number): number {
    switch (offset) {
      case Reg.PPR:
        return this.processorPriority;
      case Reg.TIMER_CURRENT:
        return this.#timer.current();
      case Reg.TIMER_INITIAL:
        return this.#timer.isDeadlineMode ? 0 : this.#reg(offset);
      case Reg.EOI:
      case Reg.APR:
      case Reg.RRD:
        return 0;
      default:
        if (isReadable(offset)) return this.#reg(offset);
        this.#error(Esr.ILLEGAL_REGISTER);
        return 0;
    }
  }

  /** Registers that xAPIC and x2APIC write alike. False: not writable. */
  #write(offset: number, value: number): boolean {
    const regs = this.#regs;
    switch (offset) {
      case Reg.TPR:
        regs[offset >> 4] = value & 0xff;
        this.#pins.taskPriorityChanged((value & 0xff) >> 4);
        this.#pins.interruptChanged();
        return true;
      case Reg.EOI:
        this.#endOfInterrupt();
        return true;
      case Reg.SVR:
        regs[offset >> 4] = value & Svr.WRITABLE;
        if ((value & Svr.ENABLED) === 0) this.#maskAll();
        this.#pins.interruptChanged();
        return true;
      case Reg.ESR:
        regs[offset >> 4] = this.#pendingErrors;
        this.#pendingErrors = 0;
        return true;
      case Reg.LVT_TIMER:
        this.#writeLvt(offset, value & LvtWritable.TIMER);
        if (this.#timer.setMode(value)) regs[Reg.TIMER_INITIAL >> 4] = 0;
        return true;
      case Reg.LVT_CMCI:
      case Reg.LVT_THERMAL:
      case Reg.LVT_PERF:
        this.#writeLvt(offset, value & LvtWritable.THERMAL);
        return true;
      case Reg.LVT_LINT0:
      case Reg.LVT_LINT1:
        this.#writeLvt(offset, value & LvtWritable.LINT);
        this.#pins.interruptChanged();
        return true;
      case Reg.LVT_ERROR:
        this.#writeLvt(offset, value & LvtWritable.ERROR);
        return true;
      case Reg.TIMER_INITIAL:
        if (this.#timer.start(value)) regs[offset >> 4] = value;
        return true;
      case Reg.TIMER_DIVIDE:
        regs[offset >> 4] = value & 0xb;
        this.#timer.setDivide(value);
        return true;
      default:
        return false;
    }
  }

  #writeLvt(offset: number, value: number): void {
    this.#regs[offset >> 4] = this.#softwareEnabled ? value : value | Lvt.MASKED;
  }

  #maskAll(): void {
    for (let offset: number = Reg.LVT_TIMER; offset <= Reg.LVT_ERROR; offset += 16) this.#mask(offset);
    this.#mask(Reg.LVT_CMCI);
  }

  #mask(offset: number): void {
    this.#regs[offset >> 4] = this.#reg(offset) | Lvt.MASKED;
  }

  #endOfInterrupt(): void {
    const vector = highestVector(this.#regs, Reg.ISR);
    if (vector < 0) return;
    setVector(this.#regs, Reg.ISR, vector, false);
    if (hasVector(this.#regs, Reg.TMR, vector)) this.#pins.endOfInterrupt(vector);
    this.#pins.interruptChanged();
  }

  #command(low: number, destination: number): void {
    const value = low & Icr.WRITABLE;
    this.#regs[Reg.ICR >> 4] = value; // delivery is immediate: bit 12 always reads idle
    const mode = (value & Lvt.MODE) >> 8;
    if ((mode === DeliveryMode.FIXED || mode === DeliveryMode.LOWEST_PRIORITY) && (value & Lvt.VECTOR) < 16) {
      this.#error(Esr.SEND_ILLEGAL_VECTOR);
      return;
    }
    if (mode === DeliveryMode.INIT && (value & Icr.LEVEL) !== 0 && (value & Icr.ASSERT) === 0) return; // INIT level de-assert
    this.#pins.sendCommand(value, destination);
  }

  // --- IA32_TSC_DEADLINE ------------------------------------------------------------------------

  get tscDeadlineLow(): number {
    return this.#timer.deadlineLow;
  }

  get tscDeadlineHigh(): number {
    return this.#timer.deadlineHigh;
  }

  /** Arms the timer for a TSC value, in TSC-deadline mode. */
  writeTscDeadline(low: number, high: number): void {
    if (this.isEnabled) this.#timer.writeDeadline(low, high);
  }

  /** The guest moved its TSC. */
  tscMoved(): void {
    this.#timer.tscMoved();
  }

  // --- state ------------------------------------------------------------------------------------

  /** The register page as `KVM_GET_LAPIC` gives it. */
  save(): Uint8Array {
    const page = new Uint8Array(SAVED_PAGE_BYTES);
    const view = new DataView(page.buffer);
    this.#regs.forEach((value, index) => {
      view.setUint32(index * 16, value, true);
    });
    if (this.isX2apic) view.setUint32(Reg.ID, (this.id << 24) >>> 0, true); // as KVM lays it out in either mode
    view.setUint32(Reg.PPR, this.processorPriority, true);
    view.setUint32(Reg.TIMER_CURRENT, this.#timer.current(), true);
    return page;
  }

  /** What `save` has no place for. */
  get remainder(): LocalApicRemainder {
    const timerLeftNs = this.#timer.leftNs;
    return { pendingErrors: this.#pendingErrors, ...(timerLeftNs === undefined ? {} : { timerLeftNs }) };
  }

  /** Loads a page of `save`. IA32_APIC_BASE comes before, IA32_TSC_DEADLINE after. */
  restore(page: Uint8Array, remainder: LocalApicRemainder | undefined): void {
    const view = new DataView(page.buffer, page.byteOffset, SAVED_PAGE_BYTES);
    for (let index = 0; index < this.#regs.length; index++)
      this.#regs[index] = view.getUint32(index * 16, true);
    const regs = this.#regs;
    regs[Reg.VERSION >> 4] = VERSION_VALUE;
    if (this.isX2apic) {
      regs[Reg.ID >> 4] = this.id;
      this.#deriveX2apicLdr();
    }
    this.#pendingErrors = remainder?.pendingErrors ?? 0;
    this.#timer.restore({
      entry: this.#reg(Reg.LVT_TIMER),
      divide: this.#reg(Reg.TIMER_DIVIDE),
      initial: this.#reg(Reg.TIMER_INITIAL),
      current: view.getUint32(Reg.TIMER_CURRENT, true),
      leftNs: remainder?.timerLeftNs,
    });
    this.#pins.taskPriorityChanged(this.cr8);
    this.#pins.interruptChanged();
  }
}
