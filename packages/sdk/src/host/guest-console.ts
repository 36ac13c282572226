import type { CharBackend } from "@northbridge/core/contracts";
import { RingBufferBackend } from "@northbridge/core";

/** Output that nobody has looked at yet is kept up to this many characters. */
const MOST_KEPT = 1_000_000;

/** The guest's console in the hands of a test: types lines, waits for what comes back. */
export class GuestConsole implements CharBackend {
  readonly #input = new RingBufferBackend(1);
  #output = "";
  #wake: (() => void) | undefined;

  write(byte: number): void {
    this.#output += String.fromCharCode(byte);
    if (this.#output.length > 2 * MOST_KEPT) this.#output = this.#output.slice(-MOST_KEPT);
    this.#wake?.();
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#input.connect(receive);
  }

  resume(): void {
    this.#input.resume();
  }

  type(text: string): void {
    this.#input.send(text);
  }

  /** The end of what the guest wrote and nobody has taken. */
  get tail(): string {
    return this.#output.slice(-2000);
  }

  /** Forgets what the guest wrote so far. */
  clear(): void {
    this.#output = "";
  }

  /** Takes the output up to and with the first match. Rejects once `signal` aborts. */
  async take(pattern: RegExp, signal: AbortSignal): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#output);
      if (match !== null) {
        this.#output = this.#output.slice(match.index + match[0].length);
        return match;
      }
      await this.#more(signal);
    }
  }

  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#wake = undefined;
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        end();
        reject(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)));
      };
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener("abort", abort);
      this.#wake = () => {
        end();
        resolve();
      };
    });
  }
}
