import type { Scheduler } from "../scheduler.ts";

/** Frames that wait while the guest has no buffer. TCP stops at the first number, but for what opens and ends connections; all else at the others. */
const DATA_STOPS_AT = 16;
const MOST_WAITING = { frames: 4096, bytes: 4 << 20 };

interface Waiting {
  readonly frame: Uint8Array;
  readonly header: Uint8Array | undefined;
}

type Receive = (frame: Uint8Array, header?: Uint8Array) => boolean;

/** The way to the guest: at once where it takes frames, through a short queue where it does not. */
export class GuestLink {
  readonly #scheduler: Scheduler;
  readonly #onRoom: () => void;
  readonly #waiting: Waiting[] = [];
  #receive: Receive | undefined;
  #blocked = false;
  #waitingBytes = 0;
  #held = 0;
  #scheduled = false;
  droppedFrames = 0;
  sentFrames = 0;

  constructor(scheduler: Scheduler, onRoom: () => void) {
    this.#scheduler = scheduler;
    this.#onRoom = onRoom;
  }

  connect(receive: Receive): void {
    this.#receive = receive;
    this.resume();
  }

  hasRoom(): boolean {
    return this.#waiting.length < DATA_STOPS_AT;
  }

  /** Sends a frame that the caller may reuse afterwards. Drops it where the guest has not read for long. */
  transmit(frame: Uint8Array, header?: Uint8Array): void {
    if (this.#held === 0 && !this.#blocked && this.#waiting.length === 0) {
      if (this.#receive?.(frame, header) === true) {
        this.sentFrames += 1;
        return;
      }
      this.#blocked = true;
    }
    if (
      this.#waiting.length >= MOST_WAITING.frames ||
      this.#waitingBytes + frame.length > MOST_WAITING.bytes
    ) {
      this.droppedFrames += 1;
      return;
    }
    this.#waiting.push({ frame: frame.slice(), header: header?.slice() });
    this.#waitingBytes += frame.length;
    if (!this.#blocked) this.#schedule();
  }

  /** Runs `body` with deliveries put off: a guest's `send` is never answered inside itself. */
  hold(body: () => void): void {
    this.#held += 1;
    try {
      body();
    } finally {
      this.#held -= 1;
    }
  }

  /** The guest has buffers again. */
  resume(): void {
    this.#blocked = false;
    this.#schedule();
  }

  close(): void {
    this.#receive = undefined;
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#scheduler.soon(() => {
      this.#scheduled = false;
      this.#drain();
    });
  }

  #drain(): void {
    let sent = 0;
    for (const { frame, header } of this.#waiting) {
      if (this.#blocked || this.#receive?.(frame, header) !== true) {
        this.#blocked = true;
        break;
      }
      sent += 1;
      this.#waitingBytes -= frame.length;
    }
    this.sentFrames += sent;
    this.#waiting.splice(0, sent);
    if (this.hasRoom() && !this.#blocked) this.#onRoom();
  }
}
