import type { BlockBackend, Clock, MemorySlot, Timer } from "@northbridge/sdk";
import type { PmemContent } from "./pmem-content.ts";

const PAGE = 4096;
/** Looked through before others have their turn: a few milliseconds. */
const PIECE = 4 << 20;
/** Guest time until it goes on: timers that are due at once have their turn before. */
const BREATH_NS = 1000;

/** A copy of the storage in guest memory: a flush writes back the pages that differ from it. */
export class CopiedContent implements PmemContent {
  readonly #bytes: Uint8Array;
  readonly #backend: BlockBackend;
  /** What the storage has. */
  readonly #stored: Uint8Array;
  /** Pages whose write failed: the storage may have either content. */
  readonly #unknown = new Set<number>();
  readonly #clock: Clock;
  readonly #breath: Timer;
  /** Ends the breath that is being taken. */
  #goOn: () => void = () => undefined;
  #isPaused = false;
  #pagesWritten = 0;

  private constructor(bytes: Uint8Array, backend: BlockBackend, clock: Clock) {
    this.#bytes = bytes;
    this.#backend = backend;
    this.#clock = clock;
    this.#breath = clock.createTimer(() => {
      this.#goOn();
    });
    this.#stored = new Uint8Array(bytes.length);
  }

  static async load({ bytes }: MemorySlot, backend: BlockBackend, clock: Clock): Promise<CopiedContent> {
    const content = new CopiedContent(bytes, backend, clock);
    for (let at = 0; at < bytes.length; at += PIECE) {
      await backend.read(at, [bytes.subarray(at, Math.min(at + PIECE, bytes.length))]);
    }
    content.#stored.set(bytes);
    return content;
  }

  stats(): Readonly<Record<string, number>> {
    return { mapped: 0, pagesWritten: this.#pagesWritten };
  }

  pause(): void {
    this.#isPaused = true;
    this.#goOn();
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** Writes runs of pages, from copies: the guest goes on meanwhile, and while its memory is looked through. */
  async flush(): Promise<void> {
    const bytes = this.#bytes;
    const stored = this.#stored;
    for (let piece = 0; piece < bytes.length; piece += PIECE) {
      if (piece > 0) await this.#breathe();
      const end = Math.min(piece + PIECE, bytes.length);
      for (let at = this.#nextDirty(piece, end); at < end; ) {
        let stop = at + PAGE;
        while (stop < end && this.#isDirty(stop)) stop += PAGE;
        const run = bytes.slice(at, stop);
        for (let page = at; page < stop; page += PAGE) this.#unknown.add(page);
        await this.#backend.write(at, [run]);
        for (let page = at; page < stop; page += PAGE) this.#unknown.delete(page);
        stored.set(run, at);
        this.#pagesWritten += run.length / PAGE;
        at = this.#nextDirty(stop, end);
      }
    }
    await this.#backend.flush();
  }

  #breathe(): Promise<void> | undefined {
    if (this.#isPaused) return undefined;
    return new Promise((resolve) => {
      this.#goOn = resolve;
      this.#breath.arm(this.#clock.nowNs() + BREATH_NS);
    });
  }

  #isDirty(at: number): boolean {
    return this.#unknown.has(at) || isDifferent(this.#bytes, this.#stored, at);
  }

  #nextDirty(from: number, end: number): number {
    let at = from;
    while (at < end && !this.#isDirty(at)) at += PAGE;
    return at;
  }
}

const WORDS = PAGE / 4;

/** Whether the page at `at` is not as stored. */
function isDifferent(bytes: Uint8Array, stored: Uint8Array, at: number): boolean {
  const now = new Uint32Array(bytes.buffer, bytes.byteOffset + at, WORDS);
  const then = new Uint32Array(stored.buffer, stored.byteOffset + at, WORDS);
  for (let i = 0; i < WORDS; i++) if (now[i] !== then[i]) return true;
  return false;
}
