import type { HostStream } from "@northbridge/sdk";
import { BUFFER, Op, Shutdown } from "./spec.ts";

/** Packets a stream owes to the guest, as bits, in the order they are sent. */
export const Owed = {
  REQUEST: 1,
  RESPONSE: 2,
  CREDIT_UPDATE: 4,
  CREDIT_REQUEST: 8,
  SHUTDOWN: 16,
  RST: 32,
} as const;

export const OPERATION: Readonly<Record<number, number>> = {
  [Owed.REQUEST]: Op.REQUEST,
  [Owed.RESPONSE]: Op.RESPONSE,
  [Owed.CREDIT_UPDATE]: Op.CREDIT_UPDATE,
  [Owed.CREDIT_REQUEST]: Op.CREDIT_REQUEST,
  [Owed.SHUTDOWN]: Op.SHUTDOWN,
  [Owed.RST]: Op.RST,
};

/**
 * One stream (virtio 1.3 §5.10.6). Counters are of 32 bits and wrap; differences of them are what matters (§5.10.6.3).
 */
export class Connection {
  readonly guestPort: number;
  readonly hostPort: number;
  stream: HostStream | undefined;
  /** Both ends have agreed to it. */
  isOpen = false;
  /** The guest sends no more; it receives no more. */
  guestShutdown = 0;
  /** The host sends no more, or is gone. */
  hostShutdown = 0;
  owed = 0;
  /** Bytes of the guest's: received, taken by the host, and what of that it has been told. */
  #received = 0;
  #forwarded = 0;
  #toldForwarded = 0;
  /** Bytes to the guest: sent, and what the guest says of its buffer. */
  #sent = 0;
  #peerAlloc = 0;
  #peerForwarded = 0;
  #hasAsked = false;

  constructor(guestPort: number, hostPort: number) {
    this.guestPort = guestPort;
    this.hostPort = hostPort;
  }

  /** What every packet of the guest's says. */
  peerCredit(alloc: number, forwarded: number): void {
    this.#peerAlloc = alloc;
    this.#peerForwarded = forwarded;
    this.owed &= ~Owed.CREDIT_REQUEST;
  }

  /** Bytes the guest has room for. */
  get credit(): number {
    const waiting = (this.#sent - this.#peerForwarded) >>> 0;
    return Math.max(0, this.#peerAlloc - waiting);
  }

  /** Owes the guest a question, once for every time that it has run out of room. */
  asksForCredit(): boolean {
    if (this.#hasAsked) return false;
    this.#hasAsked = true;
    this.owed |= Owed.CREDIT_REQUEST;
    return true;
  }

  sent(bytes: number): void {
    this.#hasAsked = false;
    this.#sent = (this.#sent + bytes) >>> 0;
  }

  /** The guest sent bytes. False where it had no credit for them. */
  received(bytes: number): boolean {
    if (((this.#received - this.#forwarded) >>> 0) + bytes > BUFFER) return false;
    this.#received = (this.#received + bytes) >>> 0;
    return true;
  }

  /** The host has taken bytes. Owes the guest an update where it thinks that half of the buffer is full (§5.10.6.3). */
  forwarded(bytes: number): void {
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    if ((this.#received - this.#toldForwarded) >>> 0 >= BUFFER / 2) this.owed |= Owed.CREDIT_UPDATE;
  }

  /** For the header of a packet that goes out: `fwd_cnt`. */
  tellForwarded(): number {
    this.#toldForwarded = this.#forwarded;
    this.owed &= ~Owed.CREDIT_UPDATE;
    return this.#forwarded;
  }

  /** Flags of a SHUTDOWN packet: neither end has anything to say once both have stopped. */
  get shutdownFlags(): number {
    const isDone = (this.guestShutdown & Shutdown.SEND) !== 0;
    return this.hostShutdown | (isDone ? Shutdown.RECEIVE : 0);
  }
}
