/** Frames that wait at most; more are lost, as in any switch. */
const MOST_WAITING = 256;

/** The way to a consumer of frames: at once where it takes them, through a short queue where it has no room. */
export class FrameQueue {
  readonly #waiting: Uint8Array[] = [];
  #receive: ((frame: Uint8Array) => boolean) | undefined;

  connect(receive: (frame: Uint8Array) => boolean): void {
    this.#receive = receive;
    this.resume();
  }

  /** Takes a frame that is only lent. False where it is lost: nobody is there, or too many wait. */
  offer(frame: Uint8Array): boolean {
    if (this.#receive === undefined) return false;
    if (this.#waiting.length === 0 && this.#receive(frame)) return true;
    if (this.#waiting.length >= MOST_WAITING) return false;
    this.#waiting.push(frame.slice());
    return true;
  }

  /** The consumer has room again. */
  resume(): void {
    let sent = 0;
    for (const frame of this.#waiting) {
      if (this.#receive?.(frame) !== true) break;
      sent += 1;
    }
    this.#waiting.splice(0, sent);
  }

  close(): void {
    this.#receive = undefined;
    this.#waiting.length = 0;
  }
}
