import { defineHostEnd, type HostEndKind, type NetBackend } from "@northbridge/sdk";
import * as v from "valibot";

/** Frames on their way to an end whose guest has no buffer; then the wire is full. */
const MOST_WAITING = 256;

/** One end of a cable: what it sends arrives at the other, in order. */
export class WireEnd implements NetBackend {
  readonly mtu = 1500;
  readonly #waiting: Uint8Array[] = [];
  #peer: WireEnd | undefined;
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  #onWritable: (() => void) | undefined;
  #onLink: ((isUp: boolean) => void) | undefined;
  /** The guest had no buffer: it says when it has. */
  #isBlocked = false;

  /** Plugs both ends in. */
  join(peer: WireEnd): void {
    this.#plug(peer);
    peer.#plug(this);
  }

  send(frame: readonly Uint8Array[]): boolean {
    const peer = this.#peer;
    if (peer === undefined) return true; // lost, as on a cable that leads nowhere
    if (peer.#waiting.length >= MOST_WAITING) return false;
    peer.#waiting.push(Buffer.concat(frame));
    // The other machine hears of it in a turn of its own.
    queueMicrotask(() => {
      peer.#offer();
    });
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.#isBlocked = false;
  }

  resume(): void {
    this.#isBlocked = false;
    this.#offer();
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.#onLink = listener;
    listener(this.#peer !== undefined);
  }

  close(): Promise<void> {
    const peer = this.#peer;
    this.#receive = undefined;
    this.#peer = undefined;
    if (peer !== undefined) peer.#plug(undefined);
    this.#waiting.length = 0;
    return Promise.resolve();
  }

  #plug(peer: WireEnd | undefined): void {
    this.#peer = peer;
    this.#onLink?.(peer !== undefined);
    // What waited for room goes on, or is lost.
    this.#onWritable?.();
  }

  #offer(): void {
    const wasFull = this.#waiting.length >= MOST_WAITING;
    while (!this.#isBlocked && this.#receive !== undefined) {
      const [frame] = this.#waiting;
      if (frame === undefined) break;
      this.#isBlocked = !this.#receive(frame);
      if (!this.#isBlocked) this.#waiting.shift();
    }
    const peer = this.#peer;
    if (peer !== undefined && wasFull && this.#waiting.length < MOST_WAITING) peer.#onWritable?.();
  }
}

/** A kind of network link for configs, `{ kind: wire }`: the first two machines that open it are joined, then the next two. */
export function wire(): HostEndKind {
  let free: WireEnd | undefined;
  return defineHostEnd({
    kind: "wire",
    of: "net",
    options: v.strictObject({}),
    open() {
      const end = new WireEnd();
      if (free === undefined) free = end;
      else {
        end.join(free);
        free = undefined;
      }
      return end;
    },
  });
}
