import type { IoHandler, PowerControl } from "@northbridge/sdk";

/** A port by which a test guest ends: 0 powers off, anything else is a failure with that number. Not on real hardware. */
export class DebugExit implements IoHandler {
  readonly #power: Pick<PowerControl, "powerOff" | "panic">;

  constructor(deps: { readonly power: Pick<PowerControl, "powerOff" | "panic"> }) {
    this.#power = deps.power;
  }

  read(): number {
    return 0;
  }

  write(_offset: number, _width: number, value: number): void {
    if (value === 0) this.#power.powerOff();
    else this.#power.panic(`debug exit ${value}`);
  }
}
