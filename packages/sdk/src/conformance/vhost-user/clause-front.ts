import { Flag, HEADER_BYTES, Protocol, Request } from "./spec.ts";
import type { VhostUserSocket, VhostUserWire } from "./wire.ts";

/** What a back end answered. */
export interface Reply {
  readonly flags: number;
  readonly payload: DataView;
  readonly fds: number;
}

/** How long a back end has for what it must do. */
const PATIENCE_MS = 10_000;

/** Throws what a clause found. */
export function violated(what: string): never {
  throw new Error(what);
}

const nameOf = (request: number): string =>
  Object.entries(Request).find(([, number]) => number === request)?.[0] ?? `message ${request}`;

/** Bytes of 64-bit numbers below 2^53. */
export function u64(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, at) => {
    view.setUint32(8 * at, value % 2 ** 32, true);
    view.setUint32(8 * at + 4, Math.floor(value / 2 ** 32), true);
  });
  return new Uint8Array(view.buffer);
}

export const u32 = (...values: readonly number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, at) => {
    view.setUint32(4 * at, value, true);
  });
  return new Uint8Array(view.buffer);
};

/** A front end that says what clauses want it to, and looks at every bit of the answers. */
export class ClauseFront {
  readonly wire: VhostUserWire;
  readonly #socket: VhostUserSocket;
  #bytes = new Uint8Array(0);
  #fds: number[] = [];
  #isClosed = false;
  /** Bits agreed on. */
  #protocol: readonly number[] = [];

  private constructor(wire: VhostUserWire, socket: VhostUserSocket) {
    this.wire = wire;
    this.#socket = socket;
  }

  static async connect(wire: VhostUserWire): Promise<ClauseFront> {
    return new ClauseFront(wire, await wire.connect());
  }

  /** Protocol features agreed on. */
  get protocol(): readonly number[] {
    return this.#protocol;
  }

  /** Features or protocol features, by number. */
  async bits(request: number): Promise<readonly number[]> {
    const { payload } = await this.ask(request);
    if (payload.byteLength !== 8) violated(`${nameOf(request)}: ${payload.byteLength} bytes, expected 8`);
    const words = [payload.getUint32(0, true), payload.getUint32(4, true)];
    return Array.from({ length: 64 }, (_, bit) => bit).filter(
      (bit) => ((words[bit >> 5] ?? 0) & (1 << (bit & 31))) !== 0,
    );
  }

  /** Agrees on those of the protocol features that are offered. */
  async agree(wanted: readonly number[]): Promise<void> {
    const offered = await this.bits(Request.GET_PROTOCOL_FEATURES);
    const protocol = wanted.filter((bit) => offered.includes(bit));
    this.send(Request.SET_PROTOCOL_FEATURES, bitsPayload(protocol));
    this.#protocol = protocol;
  }

  send(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): boolean {
    const header = u32(request, Flag.VERSION_1 | flags, payload.length);
    return this.sendBytes(Uint8Array.from([...header, ...payload]), fds);
  }

  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    return this.#socket.send(bytes, fds);
  }

  /** A request that has an answer of its own. */
  async ask(request: number, payload?: Uint8Array, fds?: readonly number[], flags = 0): Promise<Reply> {
    this.send(request, payload, fds, flags);
    const reply = await this.reply(request);
    return reply ?? violated(`${nameOf(request)}: the back end closed the connection`);
  }

  /** A request that has none: waits for the acknowledgement, if there are some. */
  async tell(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<void> {
    if (!this.#protocol.includes(Protocol.REPLY_ACK)) {
      this.send(request, payload, fds);
      return;
    }
    const { payload: answer } = await this.ask(request, payload, fds, Flag.NEED_REPLY);
    if (answer.byteLength !== 8)
      violated(`${nameOf(request)}: ${answer.byteLength} bytes of acknowledgement`);
    if (answer.getUint32(0, true) !== 0) violated(`${nameOf(request)}: the back end refuses it`);
  }

  /** The next message, which must answer `request`; undefined where the connection ends instead. */
  async reply(request: number): Promise<Reply | undefined> {
    const size = (): number => new DataView(this.#bytes.buffer).getUint32(8, true);
    const isWhole = (): boolean =>
      this.#bytes.length >= HEADER_BYTES && this.#bytes.length >= HEADER_BYTES + size();
    const hasCome = await this.until(() => {
      this.#receive();
      return isWhole() || this.#isClosed;
    });
    if (!hasCome) violated(`${nameOf(request)}: no answer came`);
    if (!isWhole()) return undefined;
    const header = new DataView(this.#bytes.buffer.slice(0, HEADER_BYTES));
    const end = HEADER_BYTES + size();
    const payload = this.#bytes.slice(HEADER_BYTES, end);
    this.#bytes = this.#bytes.slice(end);
    const found = header.getUint32(0, true);
    if (found !== request) violated(`${nameOf(request)}: an answer to ${nameOf(found)} came`);
    const fds = this.#fds.splice(0);
    for (const fd of fds) this.#socket.closeFd(fd);
    return { flags: header.getUint32(4, true), payload: new DataView(payload.buffer), fds: fds.length };
  }

  /** Whether the back end has closed the connection. */
  get isClosed(): boolean {
    this.#receive();
    return this.#isClosed;
  }

  async until(condition: () => boolean): Promise<boolean> {
    const { wire } = this;
    for (const end = wire.now() + PATIENCE_MS; wire.now() < end; ) {
      if (condition()) return true;
      await wire.turn();
    }
    return condition();
  }

  close(): void {
    for (const fd of this.#fds.splice(0)) this.#socket.closeFd(fd);
    this.#socket.close();
  }

  #receive(): void {
    while (!this.#isClosed) {
      const received = this.#socket.receive();
      if (received === undefined) return;
      if (received === "closed") {
        this.#isClosed = true;
        return;
      }
      this.#bytes = Uint8Array.from([...this.#bytes, ...received.bytes]);
      this.#fds.push(...received.fds);
    }
  }
}

export const bitsPayload = (bits: readonly number[]): Uint8Array =>
  u64(bits.reduce((sum, bit) => sum + 2 ** bit, 0));
