import type {
  Clock,
  InterruptLine,
  IoHandler,
  IoWidth,
  PowerControl,
  Resettable,
  Snapshottable,
  Timer,
} from "@northbridge/sdk";
import * as v from "valibot";
import { FixedRate } from "../fixed-rate.ts";
import { parseState, type StateSchema, tick as tickSchema, u16 } from "../state-schema.ts";
import { Control, Offset, Pm1, PM_TIMER_HZ, S5_SLEEP_TYPE, Smi } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface AcpiPmStateV1 {
  readonly version: 1;
  readonly pm1Status: number;
  readonly pm1Enable: number;
  readonly pm1Control: number;
  readonly gpeStatus: number;
  readonly gpeEnable: number;
  /** Timer tick up to which carries have been looked for. */
  readonly syncedTick: number;
}

const State: StateSchema<AcpiPmStateV1> = v.strictObject({
  version: v.literal(1),
  pm1Status: u16,
  pm1Enable: u16,
  pm1Control: u16,
  gpeStatus: u16,
  gpeEnable: u16,
  syncedTick: tickSchema,
});

type Regs = { -readonly [K in Exclude<keyof AcpiPmStateV1, "version">]: AcpiPmStateV1[K] };

const powerOn = (syncedTick: number): Regs => ({
  pm1Status: 0,
  pm1Enable: 0,
  pm1Control: 0,
  gpeStatus: 0,
  gpeEnable: 0,
  syncedTick,
});

/** What the block is wired to. */
export interface AcpiPmDeps {
  readonly clock: Clock;
  /** System control interrupt: level-triggered, active high. */
  readonly sci: InterruptLine;
  readonly power: Pick<PowerControl, "powerOff">;
  /** Width of the PM timer; the FADT must say the same. @defaultValue 24 */
  readonly timerBits?: 24 | 32 | undefined;
}

/**
 * ACPI fixed hardware (ACPI 6.4 §4.8): PM1a event and control, PM timer, one GPE block, SMI command port.
 * S5 powers off. Not modelled: S1 to S4, which `_Sx_` must therefore not offer; bus-master status; wake.
 */
export class AcpiPm implements IoHandler, Resettable, Snapshottable<AcpiPmStateV1> {
  readonly #clock: Clock;
  readonly #sci: InterruptLine;
  readonly #power: Pick<PowerControl, "powerOff">;
  readonly #timer: Timer;
  readonly #rate = new FixedRate(PM_TIMER_HZ);
  readonly #mask: number;
  /** Ticks between two changes of the timer's highest bit. */
  readonly #carry: number;
  #r: Regs;
  /** The SMI command port: nothing but ACPI on and off. */
  readonly smiCommand: IoHandler = {
    read: () => 0,
    write: (_offset, _width, value) => {
      if (value === Smi.ACPI_ENABLE) this.#r.pm1Control |= Control.SCI_ENABLE;
      else if (value === Smi.ACPI_DISABLE) this.#r.pm1Control &= ~Control.SCI_ENABLE;
      this.#sync();
    },
  };

  constructor(deps: AcpiPmDeps) {
    this.#clock = deps.clock;
    this.#sci = deps.sci;
    this.#power = deps.power;
    const bits = deps.timerBits ?? 24;
    this.#mask = 2 ** bits - 1;
    this.#carry = 2 ** (bits - 1);
    this.#r = powerOn(this.#tick());
    this.#timer = deps.clock.createTimer(() => {
      this.#sync();
    });
  }

  /** The host pressed the power button: a guest that listens shuts down. */
  pressPowerButton(): void {
    this.#r.pm1Status |= Pm1.POWER_BUTTON;
    this.#sync();
  }

  /** Sets general-purpose event `gpe`, 0–15. */
  raiseGpe(gpe: number): void {
    this.#r.gpeStatus |= (1 << gpe) & 0xffff;
    this.#sync();
  }

  read(offset: number, width: IoWidth): number {
    if (offset === Offset.TIMER && width === 4) return this.#timerValue();
    this.#look();
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.#readByte(offset + i);
    return value;
  }

  write(offset: number, width: IoWidth, value: number): void {
    this.#look();
    for (let i = 0; i < width; i++) this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    this.#sync();
  }

  reset(): void {
    this.#r = powerOn(this.#tick());
    this.#sync();
  }

  save(): AcpiPmStateV1 {
    return { version: 1, ...this.#r };
  }

  restore(state: AcpiPmStateV1): void {
    const { version: _, ...regs } = parseState("acpiPm", State, state);
    this.#r = regs;
    this.#sci.adopt(this.#level);
    this.#arm();
  }

  #readByte(offset: number): number {
    const r = this.#r;
    switch (offset & ~1) {
      case Offset.PM1_STATUS:
        return lane(r.pm1Status, offset);
      case Offset.PM1_ENABLE:
        return lane(r.pm1Enable, offset);
      case Offset.PM1_CONTROL:
        return lane(r.pm1Control, offset);
      case Offset.TIMER:
      case Offset.TIMER + 2:
        return (this.#timerValue() >>> (8 * (offset & 3))) & 0xff;
      case Offset.GPE0_STATUS:
        return lane(r.gpeStatus, offset);
      case Offset.GPE0_ENABLE:
        return lane(r.gpeEnable, offset);
      default:
        return 0;
    }
  }

  #writeByte(offset: number, value: number): void {
    const r = this.#r;
    const shift = 8 * (offset & 1);
    const bits = value << shift;
    const kept = ~(0xff << shift);
    switch (offset & ~1) {
      case Offset.PM1_STATUS:
        r.pm1Status &= ~bits; // written ones clear (§4.8.3.1.1)
        break;
      case Offset.PM1_ENABLE:
        r.pm1Enable = (r.pm1Enable & kept) | (bits & Pm1.ENABLE_MASK);
        break;
      case Offset.PM1_CONTROL:
        r.pm1Control = (r.pm1Control & kept) | (bits & Control.STORED);
        if ((bits & Control.SLEEP_ENABLE) !== 0) this.#sleep();
        break;
      case Offset.GPE0_STATUS:
        r.gpeStatus &= ~bits;
        break;
      case Offset.GPE0_ENABLE:
        r.gpeEnable = (r.gpeEnable & kept) | bits;
        break;
      default:
        break;
    }
  }

  #sleep(): void {
    if ((this.#r.pm1Control & Control.SLEEP_TYPE) >> Control.SLEEP_TYPE_SHIFT === S5_SLEEP_TYPE)
      this.#power.powerOff();
  }

  #tick(): number {
    return this.#rate.ticksAt(this.#clock.nowNs());
  }

  #timerValue(): number {
    return this.#tick() % (this.#mask + 1);
  }

  /** TMR_STS tells of every change of the timer's highest bit. */
  #look(): void {
    const r = this.#r;
    const tick = this.#tick();
    if (Math.floor(tick / this.#carry) !== Math.floor(r.syncedTick / this.#carry)) r.pm1Status |= Pm1.TIMER;
    r.syncedTick = tick;
  }

  #sync(): void {
    this.#look();
    this.#sci.set(this.#level);
    this.#arm();
  }

  /** The timer runs only while its next carry would interrupt. */
  #arm(): void {
    const { pm1Enable, pm1Status, syncedTick } = this.#r;
    if ((pm1Enable & ~pm1Status & Pm1.TIMER) === 0) this.#timer.disarm();
    else this.#timer.arm(this.#rate.nsOf((Math.floor(syncedTick / this.#carry) + 1) * this.#carry));
  }

  get #level(): boolean {
    const { pm1Control, pm1Enable, pm1Status, gpeEnable, gpeStatus } = this.#r;
    return (
      (pm1Control & Control.SCI_ENABLE) !== 0 &&
      ((pm1Status & pm1Enable) !== 0 || (gpeStatus & gpeEnable) !== 0)
    );
  }
}

function lane(register: number, offset: number): number {
  return (register >> (8 * (offset & 1))) & 0xff;
}
