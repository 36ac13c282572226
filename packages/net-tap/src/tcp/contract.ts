import type { Scheduler } from "../scheduler.ts";
import type { ByteRing } from "./byte-ring.ts";
import type { ByteStore } from "./byte-store.ts";

/** States of RFC 9293 §3.3.2, without LISTEN: who listens makes an endpoint when a SYN comes. */
export type TcpState =
  | "SYN_SENT"
  | "SYN_RECEIVED"
  | "ESTABLISHED"
  | "FIN_WAIT_1"
  | "FIN_WAIT_2"
  | "CLOSE_WAIT"
  | "CLOSING"
  | "LAST_ACK"
  | "TIME_WAIT"
  | "CLOSED";

/** What a SYN says of its sender. */
export interface SynOptions {
  readonly mss: number;
  /** −1: leave the option out. */
  readonly windowScale: number;
  readonly sackPermitted: boolean;
}

/** Header of a segment on its way out. One object is reused for all: nothing may keep it. */
export interface OutgoingSegment {
  sequence: number;
  acknowledgment: number;
  flags: number;
  window: number;
  /** Options of a SYN. */
  syn: SynOptions | undefined;
  /** Edges of SACK blocks, left and right in turn (RFC 2018 §3); empty without them. */
  readonly sack: number[];
  /** Whether the timestamps option goes along: TSval and TSecr (RFC 7323 §3.2). */
  hasTimestamp: boolean;
  timestamp: number;
  echo: number;
}

/** The network below an endpoint. */
export interface TcpOutput {
  readonly scheduler: Scheduler;
  /** False: all that can wait does. The endpoint's `flush` is called when there is room again. */
  hasRoom(): boolean;
  /** Bytes that one `transmit` may carry: more than a segment where what is below cuts them up. @defaultValue one segment */
  mostBytes?(mss: number): number;
  /** Sends a segment whose payload is `length` bytes at `offset` of `data`: of several segments, of `mss` each. */
  transmit(segment: OutgoingSegment, data: ByteRing, offset: number, length: number, mss: number): void;
  /** Asks for a `flush` soon. */
  wake(endpoint: { flush(): void }): void;
}

/** The application above an endpoint. */
export interface TcpUser {
  onEstablished(): void;
  /** Bytes in order; valid during the call. Give room back with `consumed`. */
  onData(bytes: Uint8Array): void;
  /** The peer will send no more. */
  onEnd(): void;
  /** Bytes given to `send` were acknowledged. */
  onAcknowledged(): void;
  /** The connection is gone. `reset`: it did not end in order. Called once, the last call of all. */
  onClosed(reset: boolean): void;
}

export interface TcpEndpointOptions {
  /** Our limit on what we send and announce. */
  readonly mss: number;
  readonly receiveBuffer: number;
  /** What of `receiveBuffer` may be promised now. @defaultValue all of it */
  readonly receiveLimit?: (() => number) | undefined;
  readonly sendBuffer: number;
  /** Where what waits to be sent is kept. */
  readonly store: ByteStore;
  readonly initialSequence: number;
  /** What is added to the clock in timestamps: the peer learns nothing of it (RFC 7323 §7.1). */
  readonly timestampOffset: number;
  /** Idle time before a keep-alive probe (RFC 9293 §3.8.4), and between probes. */
  readonly keepAliveMs: number;
  readonly keepAliveProbes: number;
  readonly timeWaitMs: number;
  readonly mostRetransmissions: number;
}
