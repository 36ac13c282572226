import { FdWatch, GatheredWrite, read, RootedBuffer } from "@northbridge/linux";
import type { NetBackend, NetOffloads } from "@northbridge/sdk";
import { gather, lengthOf, LONGEST_FRAME } from "../link/frame.ts";
import { RoomWatch } from "../link/room-watch.ts";
import { Ethernet, VnetHeader } from "../wire/spec.ts";
import { OpenTap, TAP_HEADER_LENGTH } from "./open-tap.ts";
import type { TapOptions } from "./tap-options.ts";

/** Frames of one wake-up: what else the event loop has to do comes in between. */
const BATCH = 64;

/** Bytes of a frame that tell flows apart: addresses and ports of IPv4; part of the addresses of IPv6. */
const FLOW = { START: 26, END: 38 } as const;

type Receive = (frame: Uint8Array, header?: Uint8Array) => boolean;

interface Queue {
  readonly fd: number;
  watch: FdWatch | undefined;
}

/** A tap interface: frames of the guest come out of it on the host, and the other way round. */
export class TapNet implements NetBackend {
  /** Name of the interface. */
  readonly name: string;
  readonly mtu: number;
  readonly offloads?: NetOffloads;
  readonly setOffloads?: (taken: NetOffloads) => void;
  readonly #tap: OpenTap;
  readonly #queues: readonly Queue[];
  readonly #incoming = new RootedBuffer(TAP_HEADER_LENGTH + LONGEST_FRAME);
  readonly #outgoing: GatheredWrite;
  /** Of a frame that goes out, as much as chooses its queue. */
  readonly #head = new Uint8Array(FLOW.END);
  /** Bytes in `incoming` that the guest has had no room for. */
  #pending = 0;
  #receive: Receive | undefined;
  #onWritable: () => void = () => undefined;
  readonly #room = new RoomWatch();
  #isClosed = false;

  constructor(tap: OpenTap) {
    this.#tap = tap;
    this.name = tap.name;
    this.mtu = tap.mtu;
    this.#queues = tap.fds.map((fd) => ({ fd, watch: undefined }));
    this.#outgoing = new GatheredWrite(tap.headerLength, LONGEST_FRAME);
    if (tap.offloads !== undefined) {
      this.offloads = tap.offloads;
      this.setOffloads = (taken) => {
        // A descriptor that is closed may be somebody else's by now.
        if (this.#isClosed) return;
        try {
          tap.setOffloads(taken);
        } catch {
          // The interface was removed under us: no frame comes any more.
        }
      };
    }
  }

  send(frame: readonly Uint8Array[], undone?: Uint8Array): boolean {
    if (this.#isClosed) return true;
    // Below a header the kernel says EINVAL; the guest's mistake is not ours.
    if (lengthOf(frame) < Ethernet.HEADER_LENGTH) return true;
    const { header } = this.#outgoing;
    header.fill(0);
    // `num_buffers` is the receiver's.
    if (undone !== undefined && header.length > 0) header.set(undone.subarray(0, VnetHeader.NUM_BUFFERS));
    const queue = this.#queueFor(frame);
    try {
      if (this.#outgoing.write(queue.fd, frame) !== undefined) return true;
    } catch {
      // The interface is down (EIO) or gone (EBADFD): the frame is lost, as on a pulled cable.
      return true;
    }
    this.#room.wait(queue.fd, () => {
      this.#onWritable();
    });
    return false;
  }

  connect(receive: Receive, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.resume();
  }

  resume(): void {
    if (this.#isClosed || this.#receive === undefined) return;
    if (this.#pending > 0) {
      if (!this.#offer(this.#pending)) return;
      this.#pending = 0;
    }
    for (const queue of this.#queues) {
      queue.watch ??= new FdWatch(queue.fd, () => {
        this.#drain(queue);
      });
    }
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.#tap.watchLink(listener);
  }

  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#stopReading();
      this.#room.close();
      this.#tap.close();
    }
    return Promise.resolve();
  }

  #drain(queue: Queue): void {
    for (let left = BATCH; left > 0 && this.#pending === 0 && !this.#isClosed; left -= 1) {
      let length: number | undefined;
      try {
        length = read(queue.fd, this.#incoming);
      } catch {
        // The interface was removed under us.
        this.#stopReading();
        return;
      }
      if (length === undefined || length <= this.#tap.headerLength) return;
      if (!this.#offer(length)) {
        this.#pending = length;
        this.#stopReading();
      }
    }
  }

  /** Offers the frame in `incoming` to the guest, with its header where it says anything. */
  #offer(length: number): boolean {
    const { bytes } = this.#incoming;
    const at = this.#tap.headerLength;
    const frame = bytes.subarray(at, length);
    const isPlain = at === 0 || (bytes[VnetHeader.FLAGS] === 0 && bytes[VnetHeader.GSO_TYPE] === 0);
    return (isPlain ? this.#receive?.(frame) : this.#receive?.(frame, bytes.subarray(0, at))) === true;
  }

  #stopReading(): void {
    for (const queue of this.#queues) {
      queue.watch?.close();
      queue.watch = undefined;
    }
  }

  /** Frames of one flow stay on one queue, so that they stay in order. */
  #queueFor(frame: readonly Uint8Array[]): Queue {
    const [first, ...others] = this.#queues;
    if (first === undefined) throw new Error("a tap without queues");
    if (others.length === 0) return first;
    const head = this.#head;
    head.fill(0);
    gather(frame, head, 0);
    let hash = 0;
    for (const byte of head.subarray(FLOW.START)) hash = (Math.imul(hash, 31) + byte) | 0;
    return this.#queues[(hash >>> 0) % this.#queues.length] ?? first;
  }
}

/**
 * A tap interface of a network namespace of this host, made or adopted. Needs CAP_NET_ADMIN, or an interface that was made
 * for this user beforehand. Throws `NB_CONFIG` and `NB_HOST`.
 */
export function tap(options: TapOptions = {}): TapNet {
  return new TapNet(OpenTap.open(options));
}
