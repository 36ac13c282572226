import { TcpFlag } from "../wire/spec.ts";
import { Reassembly } from "./reassembly.ts";
import type { Segment } from "./segment.ts";
import { advance, distance } from "./sequence.ts";

/** The receiving half of a connection: its sequence variables, its window, and what came before its time. */
export class ReceiveSide {
  readonly #buffer: number;
  readonly #limit: (() => number) | undefined;
  /** Hands bytes on. False: the connection is gone. */
  readonly #deliver: (bytes: Uint8Array) => boolean;
  readonly #reassembly = new Reassembly();
  #next = 0;
  /** Right edge of the window that the peer knows. It never goes back (RFC 9293 §3.8.6.2.2). */
  #edge = 0;
  #scale: number;
  /** The window of our SYN, which is never scaled (RFC 7323 §2.2). */
  readonly synWindow: number;
  #sendsSack = false;
  #unread = 0;
  #fin: number | undefined;
  #hasEnded = false;
  #recent = 0;
  /** Acknowledgments that the peer waits for. */
  acksOwed = 0;

  /** @param limit what of the buffer may be promised now */
  constructor(
    bufferBytes: number,
    limit: (() => number) | undefined,
    deliver: (bytes: Uint8Array) => boolean,
  ) {
    this.#buffer = bufferBytes;
    this.#limit = limit;
    this.synWindow = Math.min(0xffff, this.#most());
    this.#deliver = deliver;
    this.#scale = Math.max(0, 32 - Math.clz32(bufferBytes >>> 16));
  }

  /** The next sequence number expected (RCV.NXT). */
  get next(): number {
    return this.#next;
  }

  /** Shift to offer in a SYN; −1 once the peer has none. */
  get scale(): number {
    return this.#scale;
  }

  get heldBytes(): number {
    return this.#reassembly.heldBytes;
  }

  get windowLeft(): number {
    return Math.max(0, distance(this.#edge, this.#next));
  }

  /** Learns of the peer's SYN. */
  open(syn: Segment): void {
    this.#next = advance(syn.sequence, 1);
    this.#edge = advance(this.#next, this.synWindow);
    if (syn.windowScale < 0) this.#scale = -1;
    this.#sendsSack = syn.sackPermitted;
  }

  /** Value of the window field; what it says is promised. */
  windowField(): number {
    const edge = advance(this.#next, this.#room());
    if (distance(edge, this.#edge) > 0) this.#edge = edge;
    return Math.min(0xffff, this.windowLeft >>> Math.max(0, this.#scale));
  }

  /** Fills `into` with the SACK blocks to send. */
  sackBlocks(into: number[]): void {
    into.length = 0;
    if (this.#sendsSack && this.#reassembly.heldBytes > 0) this.#reassembly.blocks(this.#recent, into);
  }

  /** Whether a segment with data may stand for the acknowledgment that is owed: SACK blocks travel alone. */
  get mayMerge(): boolean {
    return this.acksOwed === 1 && !(this.#sendsSack && this.#reassembly.heldBytes > 0);
  }

  /** The application took `length` bytes. True where the window has opened by enough to say so. */
  consumed(length: number, mss: number): boolean {
    this.#unread -= length;
    const gain = distance(advance(this.#next, this.#room()), this.#edge);
    // Silly window avoidance (RFC 9293 §3.8.6.2.2): an opening worth a segment or half the buffer is announced.
    return gain >= Math.min(this.#most() / 2, 2 * mss);
  }

  /**
   * Takes the text and the FIN of a segment `offset` bytes from what is expected. True once the peer's FIN is reached:
   * all before it was delivered.
   */
  take(segment: Segment, offset: number): boolean {
    const { payload } = segment;
    const windowLeft = this.windowLeft;
    if (this.#hasEnded) {
      if (payload.length > 0 || (segment.flags & TcpFlag.FIN) !== 0) this.acksOwed += 1;
      return false;
    }
    if ((segment.flags & TcpFlag.FIN) !== 0 && offset + payload.length <= windowLeft) {
      this.#fin ??= advance(segment.sequence, payload.length);
      this.acksOwed = Math.max(1, this.acksOwed);
    }
    const from = Math.max(0, -offset);
    const to = Math.min(payload.length, windowLeft - offset);
    if (to > from && !this.#takeText(segment, offset, payload.subarray(from, to), from)) return false;
    if (this.#fin !== this.#next) return false;
    this.#hasEnded = true;
    this.#next = advance(this.#next, 1);
    this.#edge = advance(this.#edge, 1);
    this.#reassembly.clear();
    this.acksOwed = Math.max(1, this.acksOwed);
    return true;
  }

  clear(): void {
    this.#reassembly.clear();
  }

  #takeText(segment: Segment, offset: number, text: Uint8Array, from: number): boolean {
    if (offset > 0) {
      this.#recent = advance(segment.sequence, from);
      this.#reassembly.insert(this.#recent, text, this.#most());
      // One acknowledgment for each, so that the peer counts its duplicates (RFC 5681 §4.2).
      this.acksOwed += 1;
      return true;
    }
    this.acksOwed = Math.max(1, this.acksOwed);
    if (!this.#advance(text)) return false;
    for (;;) {
      const bytes = this.#reassembly.take(this.#next);
      if (bytes === undefined) return true;
      if (!this.#advance(bytes)) return false;
    }
  }

  #advance(text: Uint8Array): boolean {
    // Nothing beyond the peer's FIN is data.
    const length =
      this.#fin === undefined ? text.length : Math.min(text.length, distance(this.#fin, this.#next));
    if (length <= 0) return true;
    this.#next = advance(this.#next, length);
    this.#unread += length;
    return this.#deliver(length === text.length ? text : text.subarray(0, length));
  }

  #most(): number {
    return this.#limit === undefined ? this.#buffer : Math.min(this.#buffer, this.#limit());
  }

  #room(): number {
    const room = Math.max(0, this.#most() - this.#unread);
    return this.#scale < 0 ? Math.min(0xffff, room) : room;
  }
}
