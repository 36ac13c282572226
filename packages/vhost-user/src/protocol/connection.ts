import {
  close,
  FdWatch,
  receiveMessage,
  sendMessage,
  setNonBlocking,
  SystemCallError,
} from "@northbridge/linux";
import { Header, HeaderFlag, MAX_PAYLOAD, MAX_TABLE_REGIONS } from "./spec.ts";
import { viewOf } from "./payload.ts";

/** One message, and the descriptors that came with it: whoever handles it closes them. */
export interface Message {
  readonly request: number;
  readonly isReply: boolean;
  readonly needsReply: boolean;
  readonly payload: DataView;
  readonly fds: readonly number[];
}

export interface ConnectionEvents {
  /** The next message waits until this resolves. */
  message(message: Message): void | Promise<void>;
  /** The connection is gone. `reason` is `closed` where the other side closed it between two messages. */
  closed(reason: string): void;
}

/** Messages taken before others in this process have their turn. */
const BATCH = 32;

/** One end of a vhost-user socket: whole messages in, whole messages out. What it cannot parse ends it. */
export class Connection {
  readonly #fd: number;
  readonly #events: ConnectionEvents;
  readonly #header: Uint8Array = new Uint8Array(Header.LENGTH);
  #watch: FdWatch | undefined;
  #payload: Uint8Array | undefined;
  /** Bytes there are of header and payload. */
  #filled = 0;
  #fds: number[] = [];
  #isClosed = false;

  /** @param fd a connected Unix stream socket, this object's from now on */
  constructor(fd: number, events: ConnectionEvents) {
    this.#fd = fd;
    this.#events = events;
    setNonBlocking(fd);
    this.#listen();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Sends a message with its descriptors, which stay the caller's. False where the other side does not take it. */
  send(
    request: number,
    flags: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): boolean {
    if (this.#isClosed) return false;
    const message = new Uint8Array(Header.LENGTH + payload.length);
    const view = viewOf(message);
    view.setUint32(Header.REQUEST, request, true);
    view.setUint32(Header.FLAGS, flags | HeaderFlag.VERSION, true);
    view.setUint32(Header.SIZE, payload.length, true);
    message.set(payload, Header.LENGTH);
    let sent: number | undefined;
    try {
      sent = sendMessage(this.#fd, message, fds);
    } catch (error) {
      this.close(reasonOf(error));
      return false;
    }
    // A socket takes a short message whole or not at all: one that is full has a reader who never reads.
    if (sent !== message.length) this.close("notReading");
    return sent === message.length;
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watch?.close();
    for (const fd of this.#fds) close(fd);
    close(this.#fd);
    this.#events.closed(reason);
  }

  #listen(): void {
    this.#watch = new FdWatch(this.#fd, () => {
      this.#read();
    });
  }

  #read(): void {
    for (let i = 0; i < BATCH && !this.#isClosed; i++) {
      const message = this.#next();
      if (message === undefined) return;
      const done = this.#events.message(message);
      if (done !== undefined) {
        this.#wait(done);
        return;
      }
    }
  }

  /** Takes no message until `done`. */
  #wait(done: Promise<void>): void {
    this.#watch?.close();
    this.#watch = undefined;
    void done.then(() => {
      if (!this.#isClosed) this.#listen();
    });
  }

  /** The next whole message; undefined where it has not come yet, or never will. */
  #next(): Message | undefined {
    if (this.#filled < Header.LENGTH && !this.#fill(this.#header, 0)) return undefined;
    const header = viewOf(this.#header);
    const size = header.getUint32(Header.SIZE, true);
    const flags = header.getUint32(Header.FLAGS, true);
    const isVersion = (flags & HeaderFlag.VERSION_MASK) === HeaderFlag.VERSION;
    if (!isVersion || size > MAX_PAYLOAD) {
      this.close(isVersion ? "tooLong" : "version");
      return undefined;
    }
    this.#payload ??= new Uint8Array(size);
    if (this.#filled < Header.LENGTH + size && !this.#fill(this.#payload, Header.LENGTH)) return undefined;
    const message: Message = {
      request: header.getUint32(Header.REQUEST, true),
      isReply: (flags & HeaderFlag.REPLY) !== 0,
      needsReply: (flags & HeaderFlag.NEED_REPLY) !== 0,
      payload: viewOf(this.#payload),
      fds: this.#fds,
    };
    this.#payload = undefined;
    this.#filled = 0;
    this.#fds = [];
    return message;
  }

  /** Reads until `part`, which starts at `start` of the message, is full. */
  #fill(part: Uint8Array, start: number): boolean {
    while (this.#filled < start + part.length) {
      const at = this.#filled - start;
      let received;
      try {
        received = receiveMessage(this.#fd, part.length - at, MAX_TABLE_REGIONS);
      } catch (error) {
        this.close(reasonOf(error));
        return false;
      }
      if (received === undefined) return false;
      this.#fds.push(...received.fds);
      if (received.bytes.length === 0) {
        this.close(this.#filled === 0 ? "closed" : "truncated");
        return false;
      }
      part.set(received.bytes, at);
      this.#filled += received.bytes.length;
      if (this.#fds.length > MAX_TABLE_REGIONS) {
        this.close("tooManyDescriptors");
        return false;
      }
    }
    return true;
  }
}

const reasonOf = (error: unknown): string => {
  if (!(error instanceof SystemCallError)) throw error;
  return error.errno === "MSG_CTRUNC" ? "tooManyDescriptors" : error.errno;
};
