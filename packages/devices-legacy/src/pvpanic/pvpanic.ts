import type { IoHandler, PowerControl } from "@northbridge/sdk";
import { Event } from "./spec.ts";

/**
 * The paravirtual panic port: reads give the events it knows, a write of `PANICKED` reports that the guest is dead.
 * `CRASH_LOADED` is accepted and means nothing: the guest goes on into its crash kernel.
 */
export class Pvpanic implements IoHandler {
  readonly #power: Pick<PowerControl, "panic">;

  constructor(deps: { readonly power: Pick<PowerControl, "panic"> }) {
    this.#power = deps.power;
  }

  read(): number {
    return Event.PANICKED | Event.CRASH_LOADED;
  }

  write(_offset: number, _width: number, value: number): void {
    if ((value & Event.PANICKED) !== 0) this.#power.panic("the guest reported a panic (pvpanic)");
  }
}
