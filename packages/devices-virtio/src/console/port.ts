import type { CharBackend } from "@northbridge/sdk";
import type { DescriptorChain, VirtQueue } from "@northbridge/sdk/virtio";
import { MAX_BYTES } from "./spec.ts";

/** Saved form of one port, version 1. */
export interface PortStateV1 {
  /** The driver has it (PORT_READY). */
  readonly isReady: boolean;
  /** A program of the guest has it open. */
  readonly isGuestOpen: boolean;
  /** What the guest has been told of the host's end. */
  readonly isShownOpen: boolean;
  /** Control messages not yet sent, as bits of `Pending`. */
  readonly pending: number;
}

type State = { -readonly [K in keyof PortStateV1]: PortStateV1[K] };

const closed = (): State => ({ isReady: false, isGuestOpen: false, isShownOpen: false, pending: 0 });

/** What a port needs of its device. */
export interface PortHost {
  receiveQueue(): VirtQueue | undefined;
  transmitQueue(): VirtQueue | undefined;
  /** Whether input may go to the guest now. */
  accepts(port: ConsolePort): boolean;
  /** The host's end of a port came or went. */
  peerChanged(port: ConsolePort): void;
}

/** One port: the data path between its two queues and its back end. What the guest has no buffers for stays there. */
export class ConsolePort {
  /** Undefined for the console. */
  readonly name: string | undefined;
  state: State = closed();
  bytesIn = 0;
  bytesOut = 0;
  /** Whether somebody is at the host's end. */
  isHostOpen = true;
  #hasRoom = true;
  readonly #backend: CharBackend;
  readonly #host: PortHost;

  constructor(backend: CharBackend, name: string | undefined, host: PortHost) {
    this.name = name;
    this.#backend = backend;
    this.#host = host;
    backend.connect((bytes) => this.#receive(bytes));
    // Nobody waits for a console: its driver would spin until the output is gone. Programs that write to a port can.
    if (name !== undefined) {
      backend.watchRoom?.((hasRoom) => {
        this.#hasRoom = hasRoom;
        if (hasRoom) this.transmit();
      });
    }
    backend.watchPeer?.((isPresent) => {
      this.isHostOpen = isPresent;
      host.peerChanged(this);
    });
  }

  /** Asks the back end for what waits there. */
  resume(): void {
    this.#backend.resume();
  }

  reset(): void {
    this.state = closed();
  }

  /** Writes one byte past the queues. */
  emergencyWrite(byte: number): void {
    this.#backend.write(byte);
  }

  /** Writes what the driver has put into the transmit queue, as far as the host's end has room for it. */
  transmit(): void {
    const queue = this.#host.transmitQueue();
    if (queue === undefined) return;
    const next = (): DescriptorChain | undefined => (this.#hasRoom ? queue.pop() : undefined);
    do {
      queue.disableNotifications();
      for (let chain = next(); chain !== undefined; chain = next()) {
        for (const view of chain.readable(0, Math.min(chain.readableBytes, MAX_BYTES))) {
          for (const byte of view) this.#backend.write(byte);
          this.bytesOut += view.length;
        }
        queue.push(chain, 0);
      }
    } while (!this.#isDone(queue));
    queue.flush();
    this.#backend.flush?.();
  }

  /** With no room the driver need not notify of more. */
  #isDone(queue: VirtQueue): boolean {
    return !this.#hasRoom || queue.enableNotifications();
  }

  save(): PortStateV1 {
    return { ...this.state };
  }

  restore({ isReady, isGuestOpen, isShownOpen, pending }: PortStateV1): void {
    this.state = { isReady, isGuestOpen, isShownOpen, pending };
  }

  /** Puts input into the driver's buffers. Returns how much of it fitted. */
  #receive(bytes: Uint8Array): number {
    const queue = this.#host.accepts(this) ? this.#host.receiveQueue() : undefined;
    if (queue === undefined) return 0;
    let taken = 0;
    while (taken < bytes.length) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (queue.enableNotifications()) break; // the driver tells when it has buffers again
        continue;
      }
      const written = chain.write(0, taken === 0 ? bytes : bytes.subarray(taken));
      queue.push(chain, written);
      taken += written;
    }
    queue.flush();
    this.bytesIn += taken;
    return taken;
  }
}
