import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import { fields, viewOf } from "./byte-stream.ts";
import type { NbdConnection } from "./client-handshake.ts";
import { dial, type NbdClientOptions, whereOf } from "./nbd-dial.ts";
import type { StatusExtent } from "./nbd-export.ts";
import {
  Command,
  CommandFlag,
  Errno,
  ReplyFlag,
  ReplyType,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  TransmissionFlag,
} from "./spec.ts";

interface Pending {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly from: readonly Uint8Array[];
  readonly into: readonly Uint8Array[];
  readonly length: number;
  readonly extents: StatusExtent[];
  received: number;
  error: Error | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const MAX_PAYLOAD = (32 << 20) + 65536;

/** Between two attempts to connect again, at first and at most. */
const RETRY_MS = { first: 50, most: 2000 } as const;

/**
 * A disk of an NBD server as a back end (doc/proto.md). Requests run at the same time; a connection that is lost and
 * does not come back in time fails those under way and every later one by name.
 */
export class NbdClient implements BlockBackend {
  readonly size: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly writeZeroes?: (offset: number, length: number, mayUnmap: boolean) => Promise<void>;
  #connection: NbdConnection;
  readonly #options: NbdClientOptions;
  readonly #where: string;
  readonly #pending = new Map<bigint, Pending>();
  #cookie = 0n;
  #lost: Error | undefined;
  #isReconnecting = false;
  #closed = false;

  private constructor(connection: NbdConnection, options: NbdClientOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#where = whereOf(options);
    this.blockSize = Math.max(512, connection.leastBlockBytes);
    this.size = Math.floor(connection.size / this.blockSize) * this.blockSize;
    this.readOnly = options.readOnly ?? false;
    if ((connection.flags & TransmissionFlag.SEND_TRIM) !== 0) {
      this.discard = (offset, length) => this.#split(Command.TRIM, 0, offset, length);
    }
    if ((connection.flags & TransmissionFlag.SEND_WRITE_ZEROES) !== 0) {
      this.writeZeroes = (offset, length, mayUnmap) =>
        this.#split(Command.WRITE_ZEROES, mayUnmap ? 0 : CommandFlag.NO_HOLE, offset, length);
    }
    void this.#receive(connection);
  }

  /** @throws NorthbridgeError with code `NB_HOST`, or `NB_CONFIG` where the export cannot be written but should be */
  static async connect(options: NbdClientOptions): Promise<NbdClient> {
    return new NbdClient(await dial(options), options);
  }

  get location(): string {
    return this.#where;
  }

  async read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    for (const piece of pieces(offset, into, this.#connection.maxRequestBytes)) {
      await this.#request(Command.READ, 0, piece.offset, piece.length, piece.parts);
    }
  }

  async write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    this.#expectWritable();
    for (const piece of pieces(offset, from, this.#connection.maxRequestBytes)) {
      await this.#request(Command.WRITE, 0, piece.offset, piece.length, piece.parts);
    }
  }

  async flush(): Promise<void> {
    if (this.readOnly || (this.#connection.flags & TransmissionFlag.SEND_FLUSH) === 0) return;
    await this.#request(Command.FLUSH, 0, 0, 0, []);
  }

  /** What the server says of the allocation from `offset` on: at least one extent, maybe fewer bytes than asked. */
  async status(offset: number, length: number): Promise<readonly StatusExtent[]> {
    if (this.#connection.allocationId === undefined) return [{ length, flags: 0 }];
    const bounded = Math.min(length, 0xfffff000);
    const extents: StatusExtent[] = [];
    await this.#request(Command.BLOCK_STATUS, 0, offset, bounded, [], extents);
    return extents;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#lost === undefined && !this.#isReconnecting) {
      await this.#connection.stream.write(
        fields([32, REQUEST_MAGIC], [16, 0], [16, Command.DISC], [64, 0], [64, 0], [32, 0]),
      );
    }
    this.#connection.stream.end();
  }

  #expectWritable(): void {
    if (this.readOnly) throw new NorthbridgeError("NB_HOST", `${this.#where}: the disk can only be read`);
  }

  /** Requests without data may be longer than those with, but not longer than 32 bits say. */
  async #split(command: number, flags: number, offset: number, length: number): Promise<void> {
    this.#expectWritable();
    const most = 2 ** 30;
    for (let done = 0; done < length; done += most) {
      await this.#request(command, flags, offset + done, Math.min(most, length - done), []);
    }
  }

  #request(
    command: number,
    flags: number,
    offset: number,
    length: number,
    parts: readonly Uint8Array[],
    extents: StatusExtent[] = [],
  ): Promise<void> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    if (this.#closed)
      return Promise.reject(new NorthbridgeError("NB_HOST", `${this.#where}: the disk is closed`));
    if (offset < 0 || offset + length > this.size) {
      return Promise.reject(
        new NorthbridgeError("NB_HOST", `${this.#where}: ${length} bytes at ${offset} leave the disk`),
      );
    }
    const cookie = (this.#cookie += 1n);
    const isRead = command === Command.READ;
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        command,
        flags,
        from: isRead ? [] : parts,
        offset,
        length,
        into: isRead ? parts : [],
        extents,
        received: 0,
        error: undefined,
        resolve,
        reject,
      };
      this.#pending.set(cookie, pending);
      if (!this.#isReconnecting) this.#send(cookie, pending);
    });
  }

  #send(cookie: bigint, { command, flags, offset, length, from }: Pending): void {
    const connection = this.#connection;
    const head = fields(
      [32, REQUEST_MAGIC],
      [16, flags],
      [16, command],
      [64, cookie],
      [64, offset],
      [32, length],
    );
    connection.stream.write(head, ...from).catch((error: unknown) => {
      this.#lose(connection, error);
    });
  }

  async #receive(connection: NbdConnection): Promise<void> {
    try {
      for (;;) await this.#receiveReply();
    } catch (error) {
      this.#lose(connection, error);
    }
  }

  async #receiveReply(): Promise<void> {
    const { stream } = this.#connection;
    const magic = viewOf(await stream.read(4)).getUint32(0);
    if (magic === SIMPLE_REPLY_MAGIC) {
      const head = viewOf(await stream.read(12));
      const pending = this.#take(head.getBigUint64(4));
      const errno = head.getUint32(0);
      if (errno !== 0) pending.error = this.#error(errno, "");
      else if (pending.command === Command.READ) {
        if (this.#connection.isStructured) throw this.#nonsense("a simple reply to a structured read");
        this.#store(pending, pending.offset, await stream.read(pending.length));
      }
      this.#finish(pending);
      return;
    }
    if (magic !== STRUCTURED_REPLY_MAGIC) throw this.#nonsense("something that is no reply");
    const head = viewOf(await stream.read(16));
    const cookie = head.getBigUint64(4);
    const length = head.getUint32(12);
    if (length > MAX_PAYLOAD) throw this.#nonsense(`a chunk of ${length} bytes`);
    const isLast = (head.getUint16(0) & ReplyFlag.DONE) !== 0;
    const payload = await stream.read(length);
    const pending = isLast ? this.#take(cookie) : this.#pending.get(cookie);
    if (pending === undefined) throw this.#nonsense("a reply to nothing");
    this.#chunk(pending, head.getUint16(2), payload);
    if (isLast) this.#finish(pending);
  }

  #chunk(pending: Pending, type: number, payload: Uint8Array): void {
    const view = viewOf(payload);
    const expectBytes = (least: number): void => {
      if (payload.length < least)
        throw this.#nonsense(`a chunk of type ${type} with ${payload.length} bytes`);
    };
    switch (type) {
      case ReplyType.NONE:
        return;
      case ReplyType.OFFSET_DATA:
        expectBytes(9);
        this.#store(pending, Number(view.getBigUint64(0)), payload.subarray(8));
        return;
      case ReplyType.OFFSET_HOLE:
        expectBytes(12);
        this.#store(pending, Number(view.getBigUint64(0)), undefined, view.getUint32(8));
        return;
      case ReplyType.BLOCK_STATUS:
        expectBytes(12);
        for (let at = 4; at + 8 <= payload.length; at += 8) {
          pending.extents.push({ length: view.getUint32(at), flags: view.getUint32(at + 4) });
        }
        return;
      case ReplyType.ERROR:
      case ReplyType.ERROR_OFFSET: {
        expectBytes(6);
        const message = new TextDecoder().decode(payload.subarray(6, 6 + view.getUint16(4)));
        pending.error ??= this.#error(view.getUint32(0), message);
        return;
      }
      default:
        if (type >= 0x8000) pending.error ??= this.#error(Errno.EIO, `error chunk ${type}`);
        else throw this.#nonsense(`a chunk of the unknown type ${type}`);
    }
  }

  /** Copies what came, or zeroes, into the buffers of a read. */
  #store(
    pending: Pending,
    offset: number,
    bytes: Uint8Array | undefined,
    length: number = bytes?.length ?? 0,
  ): void {
    if (
      pending.command !== Command.READ ||
      offset < pending.offset ||
      offset + length > pending.offset + pending.length
    ) {
      throw this.#nonsense("data outside of what was asked for");
    }
    let skip = offset - pending.offset;
    let done = 0;
    for (const part of pending.into) {
      if (skip >= part.length) {
        skip -= part.length;
        continue;
      }
      const here = part.subarray(skip, skip + length - done);
      if (bytes === undefined) here.fill(0);
      else here.set(bytes.subarray(done, done + here.length));
      done += here.length;
      skip = 0;
      if (done === length) break;
    }
    pending.received += length;
  }

  #take(cookie: bigint): Pending {
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw this.#nonsense("a reply to nothing");
    this.#pending.delete(cookie);
    return pending;
  }

  #finish(pending: Pending): void {
    if (
      pending.error === undefined &&
      pending.command === Command.READ &&
      pending.received !== pending.length
    ) {
      pending.error = this.#nonsense(`${pending.received} bytes of the ${pending.length} asked for`);
    }
    if (
      pending.error === undefined &&
      pending.command === Command.BLOCK_STATUS &&
      pending.extents.length === 0
    ) {
      pending.error = this.#nonsense("a status without extents");
    }
    if (pending.error === undefined) pending.resolve();
    else pending.reject(pending.error);
  }

  #lose(connection: NbdConnection, error: unknown): void {
    if (connection !== this.#connection || this.#isReconnecting) return;
    connection.stream.destroy();
    if (this.#closed || (this.#options.reconnectMs ?? 0) === 0) this.#fail(error);
    else {
      this.#isReconnecting = true;
      void this.#reconnect(error);
    }
  }

  async #reconnect(error: unknown): Promise<void> {
    const until = performance.now() + (this.#options.reconnectMs ?? 0);
    let last = error;
    for (let delay: number = RETRY_MS.first; ; delay = Math.min(delay * 2, RETRY_MS.most)) {
      try {
        const connection = await dial(this.#options);
        if (connection.size !== this.#connection.size || connection.flags !== this.#connection.flags) {
          connection.stream.destroy();
          last = new NorthbridgeError(
            "NB_HOST",
            `${this.#where}: another disk came back, of ${connection.size} bytes`,
          );
          break;
        }
        this.#connection = connection;
        this.#isReconnecting = false;
        void this.#receive(connection);
        for (const [cookie, pending] of this.#pending) {
          pending.received = 0;
          pending.extents.length = 0;
          pending.error = undefined;
          this.#send(cookie, pending);
        }
        return;
      } catch (failure) {
        last = failure;
      }
      if (this.#closed || performance.now() + delay > until) break;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
    this.#isReconnecting = false;
    this.#fail(last);
  }

  #fail(error: unknown): void {
    this.#lost ??= error instanceof Error ? error : new Error(String(error));
    for (const pending of this.#pending.values()) pending.reject(this.#lost);
    this.#pending.clear();
  }

  #error(errno: number, message: string): NorthbridgeError {
    return new NorthbridgeError(
      "NB_HOST",
      `${this.#where}: the server answers with error ${errno}${message === "" ? "" : `: ${message}`}`,
    );
  }

  #nonsense(what: string): NorthbridgeError {
    return new NorthbridgeError("NB_HOST", `${this.#where}: the server sent ${what}`);
  }
}

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly parts: readonly Uint8Array[];
}

/** Buffers cut into requests of at most `most` bytes. */
function* pieces(offset: number, parts: readonly Uint8Array[], most: number): Generator<Piece> {
  let at = offset;
  let length = 0;
  let current: Uint8Array[] = [];
  for (const part of parts) {
    for (let done = 0; done < part.length; ) {
      const here = part.subarray(done, done + most - length);
      current.push(here);
      length += here.length;
      done += here.length;
      if (length < most) continue;
      yield { offset: at, length, parts: current };
      at += length;
      length = 0;
      current = [];
    }
  }
  if (length > 0) yield { offset: at, length, parts: current };
}
