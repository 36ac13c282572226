import type { ByteSink, IoHandler, PostedRange } from "@northbridge/sdk";

/** The port that a guest writes characters to, as Bochs has at 0xE9. Reads give 0xE9: that is how guests probe for it. */
export class DebugConsole implements IoHandler {
  static readonly PROBE = 0xe9;
  /** Characters may come late: a guest that prints much need not stop for each. */
  readonly posted: readonly PostedRange[] = [{ offset: 0, length: 1 }];
  readonly #out: ByteSink;

  constructor(deps: { readonly out: ByteSink }) {
    this.#out = deps.out;
  }

  read(): number {
    return DebugConsole.PROBE;
  }

  write(_offset: number, _width: number, value: number): void {
    this.#out.write(value & 0xff);
  }
}
