import { defineHostEnd, type HostEndKind, type NetBackend } from "@northbridge/sdk";
import * as v from "valibot";

/** One end of a cable: what it sends arrives at the other, in order. */
class WireEnd implements NetBackend {
  readonly mtu = 1500;
  peer: WireEnd | undefined;
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  #onWritable: (() => void) | undefined;
  readonly #waiting: Uint8Array[] = [];

  send(frame: readonly Uint8Array[]): boolean {
    const { peer } = this;
    if (peer === undefined) return true;
    if (peer.#waiting.length >= MOST_WAITING) return false;
    peer.#waiting.push(Buffer.concat(frame));
    // The other machine hears of it in a turn of its own.
    queueMicrotask(() => peer.resume());
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
  }

  resume(): void {
    const wasFull = this.#waiting.length >= MOST_WAITING;
    for (
      let frame = this.#waiting[0];
      frame !== undefined && this.#receive?.(frame);
      frame = this.#waiting[0]
    )
      this.#waiting.shift();
    if (wasFull && this.#waiting.length < MOST_WAITING) this.peer?.hasRoom();
  }

  hasRoom(): void {
    this.#onWritable?.();
  }

  close(): Promise<void> {
    if (this.peer !== undefined) this.peer.peer = undefined;
    this.peer = undefined;
    return Promise.resolve();
  }
}

const MOST_WAITING = 256;

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
        end.peer = free;
        free.peer = end;
        free = undefined;
      }
      return end;
    },
  });
}
