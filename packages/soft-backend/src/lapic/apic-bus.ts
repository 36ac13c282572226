import type { LocalApic } from "./local-apic.ts";
import { DeliveryMode, Icr, Lvt } from "./spec.ts";

/** Carries interrupt messages to the local APICs of one machine (SDM 3A §11.6.2, §11.11). */
export class ApicBus {
  readonly #apics: LocalApic[] = [];

  attach(apic: LocalApic): void {
    this.#apics.push(apic);
  }

  /** An interrupt command of `source`: `low` is ICR bits 0–31. */
  command(source: LocalApic, low: number, destination: number): void {
    const mode = (low & Lvt.MODE) >> 8;
    const vector = low & Lvt.VECTOR;
    const isLevel = (low & Icr.LEVEL) !== 0 && mode === DeliveryMode.FIXED;
    switch ((low & Icr.SHORTHAND) >>> 18) {
      case 1:
        source.receive(mode, vector, isLevel);
        break;
      case 2:
        for (const apic of this.#apics) if (apic.isEnabled) apic.receive(mode, vector, isLevel);
        break;
      case 3:
        for (const apic of this.#apics)
          if (apic !== source && apic.isEnabled) apic.receive(mode, vector, isLevel);
        break;
      default:
        this.deliver(destination, (low & Icr.LOGICAL) !== 0, mode, vector, isLevel, source.isX2apic);
    }
  }

  /** Delivers one message of an I/O APIC, a message-signalled interrupt or an interrupt command. */
  deliver(
    destination: number,
    logical: boolean,
    mode: number,
    vector: number,
    isLevel: boolean,
    fromX2apic: boolean,
  ): void {
    const apics = this.#apics;
    if (mode === DeliveryMode.LOWEST_PRIORITY) {
      let best: LocalApic | undefined;
      for (const apic of apics) {
        if (!apic.acceptsFixed || !apic.matches(destination, logical, fromX2apic)) continue;
        if (best === undefined || apic.arbitrationPriority < best.arbitrationPriority) best = apic;
      }
      best?.receive(mode, vector, isLevel);
      return;
    }
    for (const apic of apics) {
      if (apic.matches(destination, logical, fromX2apic)) apic.receive(mode, vector, isLevel);
    }
  }

  /** A write to 0xFEExxxxx (SDM 3A §11.11). A redirection hint means lowest priority. */
  message(address: number, data: number): void {
    const destination = (address >>> 12) & 0xff;
    const logical = (address & 4) !== 0;
    const mode = (data >> 8) & 7;
    const isHinted = (address & 8) !== 0 && mode === DeliveryMode.FIXED;
    this.deliver(
      destination,
      logical,
      isHinted ? DeliveryMode.LOWEST_PRIORITY : mode,
      data & 0xff,
      (data & 0x8000) !== 0,
      false,
    );
  }
}
