/** One stream between a socket of the host and a port of the guest, as a vsock device uses it. */
export interface HostStream {
  /** The guest has accepted a stream that the host opened. `port` is the host's end of it. */
  accepted(port: number): void;
  /** Takes all the bytes; they are the caller's again when it returns. The listener's `written` says when they have left. */
  write(bytes: Uint8Array): void;
  /** The guest sends no more. */
  end(): void;
  /**
   * The guest has gone: what it has written still leaves, unless a host that does not read it holds up too many streams,
   * and the listener hears no more.
   */
  close(): void;
  /** There is room for input again. */
  resume(): void;
}

/** Hears of one stream. From inside a call of the device's only `receive` and `ended` come, and only from `resume`. */
export interface HostStreamListener {
  /** A stream that the guest opened has found its socket. */
  connected(): void;
  /** Input. Returns how many bytes fitted; the stream keeps the rest and offers it again after `resume`. */
  receive(bytes: Uint8Array): number;
  /** So many bytes of the guest's have left. */
  written(count: number): void;
  /** The host sends no more, and all of it has been received. */
  ended(): void;
  /** It found no socket, or broke. Nothing follows. */
  closed(): void;
}

/** Where a vsock device joins ports of the guest to sockets of the host. */
export interface VsockBackend {
  /** The guest opens a stream to a port of the host. */
  connect(port: number, listener: HostStreamListener): HostStream;
  /** Connects the one consumer: it hears of streams that the host opens to a port of the guest, or refuses them. */
  onConnect(accept: (port: number, stream: HostStream) => HostStreamListener | undefined): void;
  close(): Promise<void>;
}
