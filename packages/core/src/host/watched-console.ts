import type { CharBackend } from "../contracts/index.ts";

/** A text looked for in a stream of bytes, one byte at a time (Knuth, Morris, Pratt). */
export class TextSearch {
  readonly #pattern: Uint8Array;
  /** Length of the longest border of each prefix. */
  readonly #border: number[] = [0];
  #matched = 0;

  constructor(text: string) {
    this.#pattern = new TextEncoder().encode(text);
    for (let i = 1, length = 0; i < this.#pattern.length; i++) {
      while (length > 0 && this.#pattern[i] !== this.#pattern[length]) length = this.#border[length - 1] ?? 0;
      if (this.#pattern[i] === this.#pattern[length]) length++;
      this.#border.push(length);
    }
  }

  /** Whether the text is complete with this byte. */
  see(byte: number): boolean {
    while (this.#matched > 0 && this.#pattern[this.#matched] !== byte) {
      this.#matched = this.#border[this.#matched - 1] ?? 0;
    }
    if (this.#pattern[this.#matched] === byte) this.#matched++;
    return this.#matched === this.#pattern.length;
  }
}

/**
 * A console that lets others see what the guest writes. Everything passes through unchanged. Listeners are called on
 * the machine thread, inside the guest's access.
 */
export class WatchedConsole implements CharBackend {
  readonly #inner: CharBackend;
  #listeners: readonly ((byte: number) => void)[] = [];

  constructor(inner: CharBackend) {
    this.#inner = inner;
  }

  /** Calls `listener` with every byte from now on, until what is returned is called. */
  tap(listener: (byte: number) => void): () => void {
    this.#listeners = [...this.#listeners, listener];
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== listener);
    };
  }

  /** Calls `found` once, when the guest has written `text`. */
  watch(text: string, found: () => void): void {
    const search = new TextSearch(text);
    const untap = this.tap((byte) => {
      if (!search.see(byte)) return;
      untap();
      found();
    });
  }

  write(byte: number): void {
    this.#inner.write(byte);
    for (const listener of this.#listeners) listener(byte);
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

  watchPeer(listener: (isPresent: boolean) => void): void {
    if (this.#inner.watchPeer === undefined) listener(true);
    else this.#inner.watchPeer(listener);
  }

  watchRoom(listener: (hasRoom: boolean) => void): void {
    if (this.#inner.watchRoom === undefined) listener(true);
    else this.#inner.watchRoom(listener);
  }
}
