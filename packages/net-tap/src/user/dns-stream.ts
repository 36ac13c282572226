import { Duplex } from "node:stream";
import { type DnsForwarder, DnsFramer, withLength } from "./dns-forwarder.ts";

/** Queries of one connection that wait for their answers. */
const MOST_PENDING = 16;

/**
 * DNS over TCP (RFC 7766) as a stream: what a guest's connection to the name server is joined to. Queries are taken no
 * faster than their answers are read, in pieces of at most `MOST_PENDING`.
 */
export class DnsStream extends Duplex {
  readonly #forwarder: DnsForwarder;
  readonly #framer = new DnsFramer();
  #pending = 0;
  #isRead = true;
  #hasEnded = false;
  #isTaking = false;
  #onTaken: (() => void) | undefined;

  constructor(forwarder: DnsForwarder) {
    super();
    this.#forwarder = forwarder;
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, onTaken: () => void): void {
    this.#framer.push(chunk);
    this.#onTaken = onTaken;
    this.#take();
  }

  override _final(onTaken: () => void): void {
    this.#hasEnded = true;
    onTaken();
    this.#endWhenDone();
  }

  override _read(): void {
    this.#isRead = true;
    this.#take();
  }

  /** Answers what may be answered now; an answer may come inside the question. */
  #take(): void {
    if (this.#isTaking) return;
    this.#isTaking = true;
    while (this.#isRead && this.#pending < MOST_PENDING && this.#onTaken !== undefined) {
      const message = this.#framer.next();
      if (message === undefined) {
        const onTaken = this.#onTaken;
        this.#onTaken = undefined;
        onTaken();
        break;
      }
      this.#pending += 1;
      const isQuery = this.#forwarder.query(message, "tcp", (answer) => {
        this.#answer(answer);
      });
      if (!isQuery) {
        this.destroy();
        break;
      }
    }
    this.#isTaking = false;
    this.#endWhenDone();
  }

  #answer(answer: Uint8Array): void {
    this.#pending -= 1;
    if (this.destroyed) return;
    this.#isRead = this.push(withLength(answer));
    this.#take();
  }

  #endWhenDone(): void {
    if (this.#hasEnded && this.#pending === 0 && !this.destroyed && !this.#isTaking) {
      this.#hasEnded = false;
      this.push(null);
    }
  }
}
