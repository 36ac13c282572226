/** Where a character device puts guest output. Must not block. */
export interface ByteSink {
  write(byte: number): void;
  /** Hands everything written so far to the host. Called when the guest pauses to breathe. */
  flush?(): void;
}

/** Where a character device takes host input from. */
export interface ByteSource {
  /**
   * Connects the one consumer. `receive` returns how many of the bytes fitted; the source keeps the rest and
   * offers them again after `resume()`.
   */
  connect(receive: (bytes: Uint8Array) => number): void;
  /** The consumer has room again. */
  resume(): void;
}

/** Both directions of a character device: a console, a socket, a ring buffer. */
export interface CharBackend extends ByteSink, ByteSource {
  /**
   * Tells whether somebody is at the other end: at once, and whenever that changes. For the one consumer.
   * @defaultValue somebody always is
   */
  watchPeer?(listener: (isPresent: boolean) => void): void;
  /**
   * Tells whether it has room for more output: at once, and whenever that changes, also while it is written to. What
   * comes all the same may be lost. For the one consumer.
   * @defaultValue it always has
   */
  watchRoom?(listener: (hasRoom: boolean) => void): void;
}

/** Block storage of the host. Offsets and lengths are bytes, multiples of `blockSize`. */
export interface BlockBackend {
  readonly size: number;
  /** `size` stands for any: a machine is only checked, and nobody looked. @defaultValue false */
  readonly isSizeUnknown?: boolean | undefined;
  /** Smallest addressable unit, a power of two from 512. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** What the bytes are kept in at the moment, for people: a file, a server. */
  readonly location?: string | undefined;
  /** Fills `into`. Rejects with a `NorthbridgeError` of code `NB_HOST`. */
  read(offset: number, into: readonly Uint8Array[]): Promise<void>;
  write(offset: number, from: readonly Uint8Array[]): Promise<void>;
  /** Resolves once every write that had resolved before the call is on stable storage. */
  flush(): Promise<void>;
  discard?(offset: number, length: number): Promise<void>;
  writeZeroes?(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** Gives the storage another size; resolves once `size` says so. */
  resize?(size: number): void | Promise<void>;
  /**
   * Puts the storage under `bytes` of guest memory, as many as its size: they are the storage from then on, and `flush`
   * covers what is written to them. False where such storage, or such memory, cannot be mapped.
   */
  mapUnder?(bytes: Uint8Array): boolean;
  /**
   * Ends what it does in guest time at once, and what comes until guest time goes on takes none: the machine pauses, and
   * guest time stands still.
   */
  hurry?(): void;
  close(): Promise<void>;
}

/** Work on frames that one end of a link may leave to the other (virtio 1.3 §5.1.6). */
export interface NetOffloads {
  /** Checksums of TCP and UDP: the frame has the pseudo-header's sum in their place. */
  readonly checksum: boolean;
  /** TCP segmentation over IPv4 and over IPv6: one frame of up to 64 KiB stands for many. */
  readonly tso4: boolean;
  readonly tso6: boolean;
  /** TCP segmentation of frames with CWR set (RFC 3168). */
  readonly ecn: boolean;
  /** UDP segmentation. */
  readonly uso: boolean;
}

/** An Ethernet link of the host. Frames carry no FCS. */
export interface NetBackend {
  readonly mtu: number;
  /** Work that it takes on in `send`, and that it can leave to the consumer. @defaultValue none */
  readonly offloads?: NetOffloads;
  /** What the consumer takes on, within `offloads`: frames may come with that undone. Until it is called, nothing. */
  setOffloads?(taken: NetOffloads): void;
  /**
   * Sends one frame gathered from parts, which are the caller's again when it returns. False: the link is full;
   * `onWritable` tells when to try again. What is no frame is lost, and so is everything while the cable is not plugged in:
   * a guest's mistake neither throws nor has anybody wait.
   * @param header what was left undone, within `offloads`: struct virtio_net_hdr with `num_buffers`, 12 bytes,
   * little-endian (virtio 1.3 §5.1.6). Offsets count from the start of the frame.
   */
  send(frame: readonly Uint8Array[], header?: Uint8Array): boolean;
  /**
   * Connects the one consumer, in the place of the one before. It returns false while it has no buffer; the backend then
   * waits for `resume`. A header as in `send` comes with frames that were left undone, or whose checksums are known to be
   * right. Both are lent for the call, in which the consumer may send.
   */
  connect(receive: (frame: Uint8Array, header?: Uint8Array) => boolean, onWritable: () => void): void;
  resume(): void;
  /** Tells whether the cable is plugged in: at once, and whenever that changes. For the one consumer. @defaultValue it is */
  watchLink?(listener: (isUp: boolean) => void): void;
  /** Answers what its card is asked at the monitor and has no answer to itself. Rejects with `NB_CONFIG`. */
  monitorCommand?(words: readonly string[]): Promise<string>;
  /** Gives the host's resources up. The consumer is offered nothing more, and what it calls all the same does nothing. */
  close(): Promise<void>;
}
