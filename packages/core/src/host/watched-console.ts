import type { CharBackend } from "../contracts/index.ts";

/** A text looked for in a stream of bytes, one byte at a time (Knuth, Morris, Pratt). */
class Watch {
  readonly #pattern: Uint8Array;
  /** Length of the longest border of each prefix. */
  readonly #border: number[] = [0];
  readonly found: () => void;
  #matched = 0;

  constructor(text: string, found: () => void) {
    this.#pattern = new TextEncoder().encode(text);
    this.found = found;
    for (let i = 1, length = 0; i < this.#pattern.length; i++) {
      while (length > 0 && this.#pattern[i] !== this.#pattern[length]) length = this.#border[length - 1] ?? 0;
      if (this.#pattern[i] === this.#pattern[length]) length++;
      this.#border.push(length);
    }
  }

  /** Whether the text is complete with this byte. */
  see(byte: number): boolean {
    while (this.#matched > 0 && this.#pattern[this.#matched] !== byte) this.#matched = this.#border[this.#matched - 1] ?? 0;
    if (this.#pattern[this.#matched] === byte) this.#matched++;
    return this.#matched === this.#pattern.length;
  }
}

/** A console that tells when the guest has written a text. Everything passes through unchanged. */
export class WatchedConsole implements CharBackend {
  readonly #inner: CharBackend;
  #watches: readonly Watch[] = [];

  constructor(inner: CharBackend) {
    this.#inner = inner;
  }

  /** Calls `found` once, when the guest has written `text`; on the machine thread, inside the guest's access. */
  watch(text: string, found: () => void): void {
    if (text.length > 0) this.#watches = [...this.#watches, new Watch(text, found)];
  }

  write(byte: number): void {
    this.#inner.write(byte);
    for (const watch of this.#watches) {
      if (!watch.see(byte)) continue;
      this.#watches = this.#watches.filter((other) => other !== watch);
      watch.found();
    }
  }

  flush(): void {
    this.#inner.flush?.();
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#inner.connect(receive);
  }

  resume(): void {
    this.#inner.resume();
  }
}
