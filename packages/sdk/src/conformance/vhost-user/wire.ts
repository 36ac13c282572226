/** What the host gives the suite: a Unix socket that passes descriptors, shared memory, event counters. */
export interface VhostUserWire {
  /** Connects to the back end anew. Rejects where nobody listens. */
  connect(): Promise<VhostUserSocket>;
  /** Memory that other processes can map. */
  shareMemory(length: number): SharedBytes;
  /** An eventfd. */
  createCounter(): EventCounter;
  /** A turn of the event loop; of some milliseconds where there is nothing to do. */
  turn(): Promise<void>;
  /** Time that a back end would need to do what it must not do. */
  linger(): Promise<void>;
  /** Milliseconds, of any clock. */
  now(): number;
}

/** One connection. */
export interface VhostUserSocket {
  /** Sends bytes, and descriptors with the first of them, which stay the caller's. False where the other side is gone. */
  send(bytes: Uint8Array, fds?: readonly number[]): boolean;
  /** What has come: nothing yet is `undefined`. Descriptors are the caller's. */
  receive(): { readonly bytes: Uint8Array; readonly fds: readonly number[] } | "closed" | undefined;
  /** Closes a descriptor that was received. */
  closeFd(fd: number): void;
  close(): void;
}

/** Memory and the descriptor that others map it by. */
export interface SharedBytes {
  readonly fd: number;
  readonly bytes: Uint8Array;
  close(): void;
}

/** An eventfd(2) and its descriptor. */
export interface EventCounter {
  readonly fd: number;
  signal(): void;
  /** What was added since the last call. */
  drain(): number;
  close(): void;
}
