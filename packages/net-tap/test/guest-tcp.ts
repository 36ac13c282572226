import { field, type GuestCard, type SegmentOptions, tcp } from "./guest-card.ts";

export const Flag = { FIN: 0x01, SYN: 0x02, RST: 0x04, ACK: 0x10 } as const;
const FIRST = 1000;

/** Until `condition` holds; the test's own time limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

/** A connection of a guest to the gateway, or to `to`, segment by segment: it does nothing by itself. */
export class GuestTcp {
  readonly port: number;
  readonly #card: GuestCard;
  readonly #to: number;
  readonly #options: SegmentOptions;
  /** Frames of before are of another connection on these ports. */
  readonly #from: number;
  /** What goes next. */
  sequence: number = FIRST;

  constructor(card: GuestCard, port: number, to: number, options: SegmentOptions = {}) {
    this.port = port;
    this.#card = card;
    this.#to = to;
    this.#options = options;
    this.#from = card.received.length;
  }

  /** Opens, and waits for it. */
  static async open(card: GuestCard, port: number, to: number, options?: SegmentOptions): Promise<GuestTcp> {
    const connection = new GuestTcp(card, port, to, options);
    connection.knock();
    await until(() => connection.last !== undefined);
    connection.send(Flag.ACK);
    return connection;
  }

  knock(): void {
    this.#card.send(tcp(this.port, this.#to, this.sequence, Flag.SYN, this.#options));
    this.sequence += 1;
  }

  /** The last segment that came. */
  get last(): Uint8Array | undefined {
    return this.#card.received.findLast(
      (frame, index) =>
        index >= this.#from &&
        field.protocol(frame) === 6 &&
        field.port(frame, 0) === this.#to &&
        field.port(frame, 2) === this.port,
    );
  }

  get flags(): number {
    return this.last === undefined ? 0 : field.tcpFlags(this.last);
  }

  /** Bytes that may go now. */
  get room(): number {
    const { last } = this;
    return last === undefined ? 0 : field.tcpAcknowledgment(last) + field.tcpWindow(last) - this.sequence;
  }

  /** All that was sent is acknowledged. */
  get isHeard(): boolean {
    return this.last !== undefined && field.tcpAcknowledgment(this.last) === this.sequence;
  }

  /** Sends a segment that acknowledges all; text and FIN count. */
  send(flags: number, payload: readonly number[] = []): void {
    const { last } = this;
    const theirs = last === undefined ? 0 : field.tcpSequence(last);
    const isOne = (this.flags & (Flag.SYN | Flag.FIN)) === 0 ? 0 : 1;
    const acknowledgment = (theirs + isOne) >>> 0;
    this.#card.send(
      tcp(this.port, this.#to, this.sequence, flags, { ...this.#options, acknowledgment, payload }),
    );
    this.sequence += payload.length + ((flags & Flag.FIN) === 0 ? 0 : 1);
  }

  /** Sends until a host that does not read closes the window. Says how much went. */
  async fill(): Promise<number> {
    const text = new Array<number>(1400).fill(65);
    let sent = 0;
    for (let idle = 0; idle < 50; idle += 1) {
      while (this.room >= text.length) {
        this.send(Flag.ACK, text);
        sent += text.length;
        idle = 0;
      }
      await new Promise(setImmediate);
    }
    return sent;
  }
}
