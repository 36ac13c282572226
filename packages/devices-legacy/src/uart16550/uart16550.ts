import type {
  ByteSink,
  InterruptLine,
  IoHandler,
  IoWidth,
  Resettable,
  Snapshottable,
} from "@northbridge/sdk";
import * as v from "valibot";
import { flag, parseState, type StateSchema, u16, u8 } from "../state-schema.ts";
import { Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr, POWER_ON_DIVISOR, Reg, RX_DEPTH, RX_TRIGGER } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface Uart16550StateV1 {
  readonly version: 1;
  readonly ier: number;
  readonly lcr: number;
  readonly mcr: number;
  readonly scr: number;
  /** Baud rate divisor, 16 bits; input clock is 1.8432 MHz / 16. */
  readonly divisor: number;
  readonly fifoEnabled: boolean;
  /** FCR bits 7:6. */
  readonly trigger: number;
  readonly overrun: boolean;
  /** MSR bits 3:0, not yet cleared by a read. */
  readonly msrDelta: number;
  /** THR-empty interrupt not yet acknowledged by an IIR read. */
  readonly thrPending: boolean;
  /** Received characters, oldest first. */
  readonly rx: readonly number[];
}

const State: StateSchema<Uart16550StateV1> = v.strictObject({
  version: v.literal(1),
  ier: u8,
  lcr: u8,
  mcr: u8,
  scr: u8,
  divisor: u16,
  fifoEnabled: flag,
  trigger: v.pipe(u8, v.maxValue(3)),
  overrun: flag,
  msrDelta: u8,
  thrPending: flag,
  rx: v.pipe(v.array(u8), v.maxLength(RX_DEPTH.fifo)),
});

type Regs = { -readonly [K in Exclude<keyof Uart16550StateV1, "version" | "rx">]: Uart16550StateV1[K] } & {
  rx: number[];
};

const powerOn = (): Regs => ({
  ier: 0,
  lcr: 0,
  mcr: 0,
  scr: 0,
  divisor: POWER_ON_DIVISOR,
  fifoEnabled: false,
  trigger: 0,
  overrun: false,
  msrDelta: 0,
  thrPending: false,
  rx: [],
});

export type FlowControl = "none" | "rts";

/** What the port is plugged into. */
export interface Uart16550Deps {
  readonly irq: InterruptLine;
  readonly tx: ByteSink;
  /** The receiver has room again after `receive` refused bytes. May call `receive` at once. */
  readonly onRoom?: () => void;
  /** Whether the other end sends only while RTS is asserted (§8.7). @defaultValue "rts" */
  readonly flowControl?: FlowControl;
}

/**
 * 16550A serial port (National PC16550D). Transmission completes at once, so `THR_EMPTY` always reads 1; for the
 * same reason a FIFO below its trigger level times out at once. Not modelled: baud pacing, parity and framing
 * errors, break, external modem lines (CTS, DSR and DCD are held active), DMA mode.
 */
export class Uart16550 implements IoHandler, Resettable, Snapshottable<Uart16550StateV1> {
  /** I/O ports occupied. */
  static readonly PORT_COUNT = 8;

  readonly #irq: InterruptLine;
  readonly #tx: ByteSink;
  readonly #onRoom: (() => void) | undefined;
  readonly #flowControl: FlowControl;
  #r: Regs = powerOn();
  /** Input was refused: say so once there is room. Host state, not the guest's. */
  #refused = false;

  constructor(deps: Uart16550Deps) {
    this.#irq = deps.irq;
    this.#tx = deps.tx;
    this.#onRoom = deps.onRoom;
    this.#flowControl = deps.flowControl ?? "rts";
  }

  /** Hands host input to the guest. Returns how many bytes fit; keep the rest until `onRoom`. */
  receive(bytes: Uint8Array): number {
    const { rx } = this.#r;
    const accepted = !this.#listens ? 0 : Math.max(0, Math.min(this.#rxDepth - rx.length, bytes.length));
    for (let i = 0; i < accepted; i++) rx.push(bytes[i] ?? 0);
    if (accepted < bytes.length) this.#refused = true;
    this.#drive();
    return accepted;
  }

  read(offset: number, _width: IoWidth): number {
    const value = this.#readReg(offset);
    this.#sync();
    return value;
  }

  write(offset: number, _width: IoWidth, value: number): void {
    this.#writeReg(offset, value & 0xff);
    this.#sync();
  }

  reset(): void {
    this.#r = powerOn();
    this.#sync();
  }

  save(): Uart16550StateV1 {
    const { ier, lcr, mcr, scr, divisor, fifoEnabled, trigger, overrun, msrDelta, thrPending, rx, ...rest } =
      this.#r;
    rest satisfies Record<string, never>; // a new register must be saved
    return {
      version: 1,
      ier,
      lcr,
      mcr,
      scr,
      divisor,
      fifoEnabled,
      trigger,
      overrun,
      msrDelta,
      thrPending,
      rx: [...rx],
    };
  }

  restore(state: Uart16550StateV1): void {
    const { version: _, rx, ...regs } = parseState("uart16550", State, state);
    this.#r = { ...regs, rx: [...rx] };
    this.#irq.adopt(this.#level);
    this.#refused = true; // whoever was turned away before may try again, once the machine goes on
  }

  /** The machine goes on: takes input that waited meanwhile. */
  resume(): void {
    if (this.#refused) this.#offerRoom();
  }

  #readReg(offset: number): number {
    const r = this.#r;
    const dlab = (r.lcr & Lcr.DLAB) !== 0;
    switch (offset) {
      case Reg.DATA:
        return dlab ? r.divisor & 0xff : (r.rx.shift() ?? 0);
      case Reg.IER:
        return dlab ? r.divisor >> 8 : r.ier;
      case Reg.IIR: {
        const cause = this.#pending();
        if (cause === Iir.THR_EMPTY) r.thrPending = false; // reading IIR acknowledges THRE only (§8.6)
        return cause | (r.fifoEnabled ? Iir.FIFO_ENABLED : 0);
      }
      case Reg.LCR:
        return r.lcr;
      case Reg.MCR:
        return r.mcr;
      case Reg.LSR: {
        const lsr =
          Lsr.THR_EMPTY | Lsr.IDLE | (r.rx.length > 0 ? Lsr.DATA_READY : 0) | (r.overrun ? Lsr.OVERRUN : 0);
        r.overrun = false; // cleared by the read (§8.4)
        return lsr;
      }
      case Reg.MSR: {
        const msr = modemInputs(r.mcr) | r.msrDelta;
        r.msrDelta = 0; // cleared by the read (§8.9)
        return msr;
      }
      case Reg.SCR:
        return r.scr;
      default:
        return 0xff;
    }
  }

  #writeReg(offset: number, value: number): void {
    const r = this.#r;
    const dlab = (r.lcr & Lcr.DLAB) !== 0;
    switch (offset) {
      case Reg.DATA:
        if (dlab) r.divisor = (r.divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case Reg.IER:
        if (dlab) {
          r.divisor = (r.divisor & 0x00ff) | (value << 8);
          break;
        }
        if ((value & ~r.ier & Ier.THR_EMPTY) !== 0) r.thrPending = true; // enabling while empty interrupts at once
        r.ier = value & Ier.MASK;
        break;
      case Reg.FCR:
        this.#writeFcr(value);
        break;
      case Reg.LCR:
        r.lcr = value;
        break;
      case Reg.MCR: {
        const before = modemInputs(r.mcr);
        r.mcr = value & Mcr.MASK;
        r.msrDelta |= modemDelta(before, modemInputs(r.mcr));
        break;
      }
      case Reg.SCR:
        r.scr = value;
        break;
      default:
        break; // LSR and MSR are read-only
    }
  }

  #writeFcr(value: number): void {
    const r = this.#r;
    const enable = (value & Fcr.ENABLE) !== 0;
    if (enable !== r.fifoEnabled || (enable && (value & Fcr.CLEAR_RX) !== 0)) r.rx.length = 0;
    r.fifoEnabled = enable;
    r.trigger = enable ? value >> Fcr.TRIGGER_SHIFT : 0; // other bits need ENABLE to be programmed (§8.5)
  }

  #transmit(byte: number): void {
    const r = this.#r;
    // The write takes the interrupt back (§8.6), and the empty register is a new one: an edge, where edges count.
    if (r.thrPending) {
      r.thrPending = false;
      this.#drive();
    }
    r.thrPending = true;
    if (!this.#loopback) this.#tx.write(byte);
    else if (r.rx.length < this.#rxDepth) r.rx.push(byte);
    else r.overrun = true;
  }

  /** Highest-priority enabled cause, as an IIR value. */
  #pending(): number {
    const { ier, overrun, rx, thrPending, msrDelta, trigger, fifoEnabled } = this.#r;
    if (overrun && (ier & Ier.LINE_STATUS) !== 0) return Iir.LINE_STATUS;
    if (rx.length > 0 && (ier & Ier.RX_DATA) !== 0) {
      return fifoEnabled && rx.length < (RX_TRIGGER[trigger] ?? 1) ? Iir.RX_TIMEOUT : Iir.RX_DATA;
    }
    if (thrPending && (ier & Ier.THR_EMPTY) !== 0) return Iir.THR_EMPTY;
    if (msrDelta !== 0 && (ier & Ier.MODEM_STATUS) !== 0) return Iir.MODEM_STATUS;
    return Iir.NONE;
  }

  #sync(): void {
    this.#drive();
    if (this.#refused) this.#offerRoom();
  }

  /** The only place that drives the line. */
  #drive(): void {
    this.#irq.set(this.#level);
  }

  /** Waits until the receiver is empty: refilling after each character would cost a call per byte. */
  #offerRoom(): void {
    if (this.#r.rx.length > 0 || !this.#listens) return;
    this.#refused = false;
    this.#onRoom?.();
  }

  /** On a PC, OUT2 gates the interrupt. */
  get #level(): boolean {
    return (this.#r.mcr & Mcr.OUT2) !== 0 && this.#pending() !== Iir.NONE;
  }

  /** Whether the other end sends. What it sent to a driver that still looks for the port would be lost with the FIFO. */
  get #listens(): boolean {
    return !this.#loopback && (this.#flowControl === "none" || (this.#r.mcr & Mcr.RTS) !== 0);
  }

  get #loopback(): boolean {
    return (this.#r.mcr & Mcr.LOOP) !== 0;
  }

  get #rxDepth(): number {
    return this.#r.fifoEnabled ? RX_DEPTH.fifo : RX_DEPTH.holding;
  }
}

/** Modem inputs as MSR bits 7:4. In loopback (MCR bit 4) the modem outputs feed them (§8.7). */
function modemInputs(mcr: number): number {
  if ((mcr & Mcr.LOOP) === 0) return Msr.CTS | Msr.DSR | Msr.DCD;
  return (
    ((mcr & Mcr.RTS) !== 0 ? Msr.CTS : 0) |
    ((mcr & Mcr.DTR) !== 0 ? Msr.DSR : 0) |
    ((mcr & Mcr.OUT1) !== 0 ? Msr.RI : 0) |
    ((mcr & Mcr.OUT2) !== 0 ? Msr.DCD : 0)
  );
}

/** MSR bits 3:0 for a change of the inputs; RI reports its trailing edge only (§8.9). */
function modemDelta(before: number, after: number): number {
  const changed = before ^ after;
  return (
    ((changed & Msr.CTS) !== 0 ? Msr.DELTA_CTS : 0) |
    ((changed & Msr.DSR) !== 0 ? Msr.DELTA_DSR : 0) |
    ((before & ~after & Msr.RI) !== 0 ? Msr.TRAILING_EDGE_RI : 0) |
    ((changed & Msr.DCD) !== 0 ? Msr.DELTA_DCD : 0)
  );
}
