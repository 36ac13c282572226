import type { IoHandler, IoWidth, Resettable, Snapshottable } from "@northbridge/sdk";
import * as v from "valibot";
import { parseState, type StateSchema, u32, u8 } from "../state-schema.ts";
import { DeliveryMode, DESTINATION_SHIFT, ID, Offset, PINS, Redir, Reg, VERSION } from "./spec.ts";

/** An interrupt on its way to the local APICs. The object is reused: read it during the call. */
export interface ApicMessage {
  readonly vector: number;
  /** IOREDTBL bits 10:8; 7 (ExtINT) takes its vector from the i8259. */
  readonly deliveryMode: number;
  readonly destinationMode: "physical" | "logical";
  readonly destination: number;
  readonly trigger: "edge" | "level";
}

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface IoapicStateV1 {
  readonly version: 1;
  readonly id: number;
  readonly select: number;
  /** Input levels, bit by pin. */
  readonly lines: number;
  /** IOREDTBL bits 31:0 and 63:32 by pin. */
  readonly redirection: readonly (readonly [low: number, high: number])[];
}

const State: StateSchema<IoapicStateV1> = v.strictObject({
  version: v.literal(1),
  id: v.pipe(u8, v.maxValue(ID.MASK)),
  select: u8,
  lines: v.pipe(u32, v.maxValue(2 ** PINS - 1)),
  redirection: v.pipe(v.array(v.strictTuple([u32, u32])), v.length(PINS)),
});

/** What the chip drives. */
export interface IoapicDeps {
  deliver(message: ApicMessage): void;
}

/**
 * I/O APIC 82093AA with 24 pins.
 *
 * A pure chip for backends: a backend maps it at 0xFEC00000, feeds `setIrq` (ISA line 0 is pin 2, the rest are
 * identical), takes messages from `deliver` and reports end-of-interrupt broadcasts to `eoi`. It is not a device
 * of `pc-1`, as KVM's is not one either.
 *
 * As in KVM, `true` on a pin means asserted whatever the polarity bit says. Not modelled: delivery status (a
 * message leaves at once), the APIC bus arbitration.
 */
export class Ioapic implements IoHandler, Resettable, Snapshottable<IoapicStateV1> {
  readonly #deliver: (message: ApicMessage) => void;
  readonly #low: Uint32Array = new Uint32Array(PINS);
  readonly #high: Uint32Array = new Uint32Array(PINS);
  readonly #message: { -readonly [K in keyof ApicMessage]: ApicMessage[K] } = {
    vector: 0,
    deliveryMode: DeliveryMode.FIXED,
    destinationMode: "physical",
    destination: 0,
    trigger: "edge",
  };
  #id = 0;
  #select = 0;
  #lines = 0;

  constructor(deps: IoapicDeps) {
    this.#deliver = (message) => {
      deps.deliver(message);
    };
    this.#clear();
  }

  setIrq(pin: number, level: boolean): void {
    if (pin < 0 || pin >= PINS) return;
    const bit = 1 << pin;
    const was = (this.#lines & bit) !== 0;
    this.#lines = level ? this.#lines | bit : this.#lines & ~bit;
    if (!level || was) return;
    const entry = this.#low[pin] ?? 0;
    if ((entry & Redir.LEVEL) !== 0) this.#service(pin);
    else if ((entry & Redir.MASKED) === 0) this.#send(pin); // an edge on a masked pin is lost (§3.2.4)
  }

  /** A local APIC ended an interrupt of `vector` that had arrived as level-triggered. */
  eoi(vector: number): void {
    for (let pin = 0; pin < PINS; pin++) {
      const entry = this.#low[pin] ?? 0;
      if ((entry & Redir.VECTOR) !== vector || (entry & Redir.REMOTE_IRR) === 0) continue;
      this.#low[pin] = entry & ~Redir.REMOTE_IRR;
      this.#service(pin);
    }
  }

  read(offset: number, width: IoWidth): number {
    // The chip knows 32-bit accesses only (§3.0); narrower ones see the bytes they name.
    const value = this.#readWord(offset & ~3);
    return width === 4 ? value : (value >>> (8 * (offset & 3))) & (width === 1 ? 0xff : 0xffff);
  }

  write(offset: number, _width: IoWidth, value: number): void {
    if (offset === Offset.IOREGSEL) this.#select = value & 0xff;
    else if (offset === Offset.IOWIN) this.#writeReg(this.#select, value);
  }

  reset(): void {
    this.#clear();
  }

  save(): IoapicStateV1 {
    const redirection = Array.from(this.#low, (low, pin): readonly [number, number] => [
      low,
      this.#high[pin] ?? 0,
    ]);
    return { version: 1, id: this.#id, select: this.#select, lines: this.#lines, redirection };
  }

  /** Delivers nothing: what was delivered before is in the local APICs' state. */
  restore(state: IoapicStateV1): void {
    const { id, select, lines, redirection } = parseState("ioapic", State, state);
    this.#id = id;
    this.#select = select;
    this.#lines = lines;
    redirection.forEach(([low, high], pin) => {
      this.#low[pin] = low;
      this.#high[pin] = high;
    });
  }

  #clear(): void {
    this.#id = this.#select = this.#lines = 0;
    this.#low.fill(Redir.MASKED);
    this.#high.fill(0);
  }

  #readWord(offset: number): number {
    if (offset === Offset.IOREGSEL) return this.#select;
    if (offset !== Offset.IOWIN) return 0;
    switch (this.#select) {
      case Reg.ID:
      case Reg.ARBITRATION:
        return (this.#id << ID.SHIFT) >>> 0;
      case Reg.VERSION:
        return VERSION;
      default: {
        const index = this.#select - Reg.REDTBL;
        if (index < 0 || index >= 2 * PINS) return 0;
        return ((index & 1) === 0 ? this.#low : this.#high)[index >> 1] ?? 0;
      }
    }
  }

  #writeReg(select: number, value: number): void {
    if (select === Reg.ID) this.#id = (value >>> ID.SHIFT) & ID.MASK;
    const index = select - Reg.REDTBL;
    if (index < 0 || index >= 2 * PINS) return;
    const pin = index >> 1;
    if ((index & 1) !== 0) {
      this.#high[pin] = value & (0xff << DESTINATION_SHIFT);
      return;
    }
    const kept = (value & Redir.LEVEL) !== 0 ? (this.#low[pin] ?? 0) & Redir.REMOTE_IRR : 0;
    this.#low[pin] = (value & Redir.WRITABLE) | kept; // a turn to edge drops Remote IRR: Linux ends interrupts so
    this.#service(pin);
  }

  /** Sends a level-triggered request that is waiting: asserted, unmasked, and not yet sent. */
  #service(pin: number): void {
    const entry = this.#low[pin] ?? 0;
    if (
      (entry & (Redir.LEVEL | Redir.MASKED | Redir.REMOTE_IRR)) !== Redir.LEVEL ||
      (this.#lines & (1 << pin)) === 0
    )
      return;
    const mode = (entry >> Redir.DELIVERY_MODE_SHIFT) & 7;
    // Remote IRR exists for fixed and lowest priority only: no EOI comes for the others (§3.2.4).
    if (mode === DeliveryMode.FIXED || mode === DeliveryMode.LOWEST)
      this.#low[pin] = entry | Redir.REMOTE_IRR;
    this.#send(pin);
  }

  #send(pin: number): void {
    const entry = this.#low[pin] ?? 0;
    const message = this.#message;
    message.vector = entry & Redir.VECTOR;
    message.deliveryMode = (entry >> Redir.DELIVERY_MODE_SHIFT) & 7;
    message.destinationMode = (entry & Redir.LOGICAL) !== 0 ? "logical" : "physical";
    message.destination = (this.#high[pin] ?? 0) >>> DESTINATION_SHIFT;
    message.trigger = (entry & Redir.LEVEL) !== 0 ? "level" : "edge";
    this.#deliver(message);
  }
}
