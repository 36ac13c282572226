import type { NetBackend } from "@northbridge/core/contracts";
import { isUndone, type LinkFrames } from "./net-frames.ts";

/** What a card is to its link: takes frames while it has buffers, and keeps what it was offered. */
export class Card {
  /** Tags of the suite's frames that it took, oldest first. */
  readonly tags: number[] = [];
  readonly lengths: number[] = [];
  /** Offers of the suite's frames, taken or not. */
  offers = 0;
  /** Frames of anybody that came with work left, or after `isOver`. */
  readonly faults: string[] = [];
  buffers: number = Infinity;
  /** Nothing may come any more. */
  isOver = false;
  /** What else the card does with a frame, inside `receive`. */
  onFrame: (tag: number) => void = () => undefined;
  #look: () => void = () => undefined;
  #onWritable: () => void = () => undefined;

  constructor(net: NetBackend, frames: LinkFrames) {
    net.connect(
      (frame, header) => {
        if (this.isOver) this.faults.push("a frame came after the end");
        if (isUndone(header)) this.faults.push("a frame came with work left that nobody took on");
        const tag = frames.tagOf(frame);
        if (tag === undefined) return true;
        return this.#offered(tag, frame.length);
      },
      () => {
        this.#onWritable();
      },
    );
  }

  /** Resolves once so many of the suite's frames have been offered since the beginning. */
  offered(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#look = () => {
        if (this.offers >= count) resolve();
      };
      this.#look();
    });
  }

  /** Resolves once so many of them have been taken. */
  taken(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#look = () => {
        if (this.tags.length >= count) resolve();
      };
      this.#look();
    });
  }

  /** Resolves when the link next says that it has room. */
  writable(): Promise<void> {
    return new Promise((resolve) => (this.#onWritable = resolve));
  }

  #offered(tag: number, length: number): boolean {
    this.offers++;
    const isTaken = this.buffers > 0;
    if (isTaken) {
      this.buffers--;
      this.tags.push(tag);
      this.lengths.push(length);
      this.onFrame(tag);
    }
    this.#look();
    return isTaken;
  }
}
