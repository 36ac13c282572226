import { Alarm, type Scheduler } from "../scheduler.ts";
import { TcpFlag } from "../wire/spec.ts";
import { ByteRing } from "./byte-ring.ts";
import type { TcpEndpointOptions } from "./contract.ts";
import { Scoreboard } from "./scoreboard.ts";
import type { Segment } from "./segment.ts";
import { CongestionWindow, RoundTrip } from "./send-window.ts";
import { advance, distance } from "./sequence.ts";
import { TIMESTAMP_BYTES } from "./timestamps.ts";

/** What the sending half asks of its connection. */
export interface SendSideOwner {
  readonly scheduler: Scheduler;
  hasRoom(): boolean;
  /** Bytes that one `emit` may carry. */
  mostBytes(mss: number): number;
  /** Sends a segment with `length` bytes at `offset` of `data`. */
  emit(sequence: number, flags: number, offset: number, length: number): void;
  sendSyn(): void;
  wake(): void;
  /** The peer has not answered for too long. */
  giveUp(): void;
}

/** What an acknowledgment was. */
export type Acknowledgment = "future" | "nothing" | "progress";

/**
 * The sending half of a connection: its sequence variables, what was sent and not acknowledged, and when it is sent
 * again, by fast retransmission (RFC 5681, 6582, 6675) or by the timer (RFC 6298).
 */
export class SendSide {
  readonly data: ByteRing;
  readonly #owner: SendSideOwner;
  readonly #retransmit: Alarm;
  readonly #roundTrip = new RoundTrip();
  readonly #scoreboard = new Scoreboard();
  readonly #mostRetransmissions: number;
  #congestion: CongestionWindow;
  #mss: number;

  // Sequence variables of RFC 9293 §3.3.1. `max` is the highest `nxt` there has been.
  readonly #iss: number;
  #una: number;
  #nxt: number;
  #max: number;
  #wnd = 0;
  #wl1 = 0;
  #wl2 = 0;
  #scale = 0;
  #isOpening = true;
  #finWanted = false;
  #finFrom: number | undefined;
  #usesSack = false;
  /** End of what was under way when recovery began, and where its retransmission has come to. */
  #recover = 0;
  #resent = 0;
  #retransmissions = 0;
  #timedSequence: number | undefined;
  #timedAtMs = 0;

  constructor(owner: SendSideOwner, options: TcpEndpointOptions) {
    this.#owner = owner;
    this.#mss = options.mss;
    this.#mostRetransmissions = options.mostRetransmissions;
    this.data = new ByteRing(options.sendBuffer, options.store);
    this.#congestion = new CongestionWindow(options.mss, false);
    this.#iss = options.initialSequence >>> 0;
    this.#una = this.#iss;
    this.#nxt = this.#iss;
    this.#max = this.#iss;
    this.#retransmit = new Alarm(owner.scheduler, () => {
      this.#onTimer();
    });
  }

  get initialSequence(): number {
    return this.#iss;
  }

  get unacknowledged(): number {
    return this.#una;
  }

  /** The highest number sent so far. */
  get highest(): number {
    return this.#max;
  }

  get mss(): number {
    return this.#mss;
  }

  get finWanted(): boolean {
    return this.#finWanted;
  }

  get finSent(): boolean {
    return this.#finFrom !== undefined;
  }

  get finAcknowledged(): boolean {
    return this.#finFrom !== undefined && distance(this.#una, this.#finFrom) > 0;
  }

  /** A SYN went out. */
  synSent(): void {
    this.#nxt = advance(this.#iss, 1);
    this.#max = this.#nxt;
    this.#timedSequence = this.#retransmissions === 0 ? this.#nxt : undefined;
    this.#timedAtMs = this.#owner.scheduler.nowMs();
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
  }

  /** Learns of the peer's SYN. */
  learn(syn: Segment): void {
    // RFC 9293 §3.7.1: 536 without the option.
    this.#mss = Math.min(this.#mss, syn.mss === 0 ? 536 : Math.max(64, syn.mss));
    // The size that is announced is without options (RFC 6691).
    if (syn.hasTimestamp) this.#mss -= TIMESTAMP_BYTES;
    this.#usesSack = syn.sackPermitted;
    this.#congestion = new CongestionWindow(this.#mss, syn.sackPermitted);
    if (syn.windowScale >= 0) this.#scale = syn.windowScale;
    this.#wnd = syn.window;
    this.#wl1 = syn.sequence;
    this.#wl2 = syn.acknowledgment;
  }

  /** Our SYN was acknowledged. False where `acknowledgment` is of something else. */
  opened(acknowledgment: number): boolean {
    if (acknowledgment !== this.#nxt) return false;
    this.#una = acknowledgment;
    this.#isOpening = false;
    if (this.#timedSequence !== undefined) {
      this.#roundTrip.sample(this.#owner.scheduler.nowMs() - this.#timedAtMs);
      this.#timedSequence = undefined;
    }
    this.#retransmissions = 0;
    this.#retransmit.disarm();
    return true;
  }

  end(): void {
    this.#finWanted = true;
  }

  /** No more is sent again: all of ours was acknowledged. */
  rest(): void {
    this.#retransmit.disarm();
  }

  close(): void {
    this.data.clear();
    this.#retransmit.close();
  }

  /**
   * Processes acknowledgment and window of a segment (RFC 9293 §3.10.7.4, "fifth").
   * @param roundTripMs what its timestamp says, where it has one
   */
  acknowledge(segment: Segment, roundTripMs: number | undefined): Acknowledgment {
    const { acknowledgment } = segment;
    if (distance(acknowledgment, this.#max) > 0) return "future";
    const gained = distance(acknowledgment, this.#una);
    if (gained < 0) return "nothing";
    const gainedSack = this.#takeSack(segment);
    const sameWindow = segment.window << this.#scale === this.#wnd;
    if (gained > 0) {
      this.setWindow(segment);
      this.#advance(acknowledgment, gained, roundTripMs);
      return "progress";
    }
    const flight = distance(this.#max, this.#una);
    // A duplicate in the sense of RFC 5681 §2, or one that brings news of what arrived (RFC 6675 §2).
    const isDuplicate =
      segment.payload.length === 0 && (segment.flags & TcpFlag.FIN) === 0 && sameWindow && !this.#usesSack;
    if (flight > 0 && (isDuplicate || gainedSack)) {
      const isLost = this.#usesSack && this.#scoreboard.isLost(this.#una, this.#mss);
      if (this.#congestion.duplicate(flight, isLost)) this.#beginRecovery();
    }
    this.setWindow(segment);
    return "nothing";
  }

  setWindow(segment: Segment): void {
    const newer = distance(segment.sequence, this.#wl1);
    if (newer < 0 || (newer === 0 && distance(segment.acknowledgment, this.#wl2) < 0)) return;
    const wasClosed = this.#wnd === 0;
    this.#wnd = segment.window << this.#scale;
    this.#wl1 = segment.sequence;
    this.#wl2 = segment.acknowledgment;
    if (wasClosed && this.#wnd > 0) {
      this.#retransmissions = 0;
      this.#roundTrip.progress();
      this.#nxt = this.#una;
      this.#retransmit.disarm();
    }
    // A peer that answers probes is alive, however long its window stays closed (RFC 9293 §3.8.6.1).
    if (this.#wnd === 0) this.#retransmissions = Math.min(this.#retransmissions, 6);
  }

  /** Sends what may be sent: lost data, new data, the FIN. */
  flush(): void {
    if (this.#congestion.recovering && this.#usesSack) this.#resendLost();
    this.#sendNew();
    if (this.#finWanted && distance(this.#nxt, this.#una) === this.data.length) this.#sendFin();
    const nothingUnderWay = this.#max === this.#una;
    if (nothingUnderWay && this.data.length > 0 && this.#wnd === 0 && !this.#retransmit.armed) {
      this.#retransmit.arm(this.#roundTrip.timeoutMs);
    }
  }

  // ---- acknowledgments

  /** True where a block says something new. Blocks outside of what was sent are not believed. */
  #takeSack(segment: Segment): boolean {
    if (!this.#usesSack) return false;
    let isNews = false;
    for (let index = 0; index + 1 < segment.sack.length; index += 2) {
      const from = segment.sack[index] ?? 0;
      const to = segment.sack[index + 1] ?? 0;
      const isSane =
        distance(to, from) > 0 && distance(from, segment.acknowledgment) > 0 && distance(this.#max, to) >= 0;
      if (!isSane || distance(from, this.#una) <= 0) continue;
      const held = this.#scoreboard.skip(from);
      if (held !== from && distance(held, to) >= 0) continue;
      this.#scoreboard.add(from, to);
      isNews = true;
    }
    return isNews;
  }

  #advance(acknowledgment: number, gained: number, roundTripMs: number | undefined): void {
    const isFin = this.#finFrom !== undefined && distance(acknowledgment, this.#finFrom) > 0;
    this.data.drop(Math.min(this.data.length, isFin ? gained - 1 : gained));
    this.#una = acknowledgment;
    this.#scoreboard.acknowledge(acknowledgment);
    if (distance(this.#nxt, acknowledgment) < 0) this.#nxt = acknowledgment;
    if (distance(this.#resent, acknowledgment) < 0) this.#resent = acknowledgment;
    this.#retransmissions = 0;
    if (roundTripMs !== undefined) this.#roundTrip.sample(roundTripMs);
    else if (this.#timedSequence !== undefined && distance(acknowledgment, this.#timedSequence) >= 0) {
      this.#roundTrip.sample(this.#owner.scheduler.nowMs() - this.#timedAtMs);
      this.#timedSequence = undefined;
    }
    this.#roundTrip.progress();
    if (!this.#congestion.recovering) this.#congestion.acknowledged(gained);
    else if (distance(acknowledgment, this.#recover) >= 0) this.#congestion.recovered();
    else {
      this.#congestion.partial(gained);
      if (!this.#usesSack) this.#resendFirst();
    }
    if (distance(this.#max, this.#una) > 0) this.#retransmit.arm(this.#roundTrip.timeoutMs);
    else this.#retransmit.disarm();
  }

  #beginRecovery(): void {
    this.#recover = this.#max;
    this.#resent = advance(this.#una, this.#resendFirst());
  }

  // ---- sending

  #resendLost(): void {
    for (;;) {
      const from = this.#scoreboard.nextLost(this.#resent, this.#mss);
      if (from === undefined || distance(from, this.#recover) >= 0) return;
      const offset = distance(from, this.#una);
      const left = this.data.length - offset;
      const length = Math.min(this.#mss, left, this.#scoreboard.gapAfter(from, left));
      if (length <= 0 || this.#congestion.bytes - this.#inNetwork() < length || !this.#owner.hasRoom())
        return;
      this.#timedSequence = undefined;
      this.#owner.emit(from, TcpFlag.ACK, offset, length);
      this.#resent = advance(from, length);
      this.#retransmit.arm(this.#roundTrip.timeoutMs);
    }
  }

  #sendNew(): void {
    for (;;) {
      // After a time-out, what the peer is known to hold is not sent again.
      if (this.#nxt !== this.#max) this.#nxt = this.#scoreboard.skip(this.#nxt);
      const flight = distance(this.#nxt, this.#una);
      const waiting = this.data.length - flight;
      if (waiting <= 0) return;
      const usable = Math.min(this.#wnd - flight, this.#congestion.bytes - this.#inNetwork());
      if (usable <= 0 || !this.#owner.hasRoom()) return;
      const wanted = this.#scoreboard.gapAfter(this.#nxt, waiting);
      const length = this.#wholeSegments(Math.min(wanted, usable), wanted);
      // Sender's silly window avoidance (RFC 9293 §3.8.6.2.1): no crumbs while something is under way.
      if (length < this.#mss && length < wanted && flight > 0) return;
      if (this.#timedSequence === undefined && this.#nxt === this.#max) {
        this.#timedSequence = advance(this.#nxt, length);
        this.#timedAtMs = this.#owner.scheduler.nowMs();
      }
      const push = length === waiting ? TcpFlag.PSH : 0;
      this.#owner.emit(this.#nxt, TcpFlag.ACK | push, flight, length);
      this.#moveNext(length);
    }
  }

  /** As many bytes as go at once: whole segments, but for the last of `wanted`. */
  #wholeSegments(bytes: number, wanted: number): number {
    const most = Math.min(bytes, this.#owner.mostBytes(this.#mss));
    return most === wanted || most <= this.#mss ? most : most - (most % this.#mss);
  }

  #inNetwork(): number {
    if (!this.#usesSack || !this.#congestion.recovering) return distance(this.#nxt, this.#una);
    return this.#scoreboard.pipe(this.#una, this.#max, this.#resent, this.#mss);
  }

  #sendFin(): void {
    if (this.#finFrom === undefined) this.#finFrom = this.#nxt;
    else if (this.#nxt !== this.#finFrom) return;
    this.#owner.emit(this.#nxt, TcpFlag.FIN | TcpFlag.ACK, 0, 0);
    this.#moveNext(1);
  }

  #moveNext(by: number): void {
    this.#nxt = advance(this.#nxt, by);
    if (distance(this.#nxt, this.#max) > 0) this.#max = this.#nxt;
    if (!this.#retransmit.armed) this.#retransmit.arm(this.#roundTrip.timeoutMs);
  }

  /** Sends the oldest segment again, and nothing that was not sent before. Sequence numbers it took. */
  #resendFirst(): number {
    this.#timedSequence = undefined;
    const flight = distance(this.#max, this.#una);
    const length = Math.min(this.#mss, this.data.length, this.#scoreboard.gapAfter(this.#una, flight));
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
    if (length > 0) this.#owner.emit(this.#una, TcpFlag.ACK, 0, length);
    else if (this.#finFrom === this.#una) {
      this.#owner.emit(this.#una, TcpFlag.FIN | TcpFlag.ACK, 0, 0);
      return 1;
    }
    return length;
  }

  // ---- time

  #onTimer(): void {
    this.#retransmissions += 1;
    if (this.#retransmissions > this.#mostRetransmissions) {
      this.#owner.giveUp();
      return;
    }
    this.#roundTrip.backOff();
    this.#timedSequence = undefined;
    if (this.#isOpening) {
      this.#owner.sendSyn();
      return;
    }
    // The peer may have thrown away what it said it held (RFC 2018 §8).
    this.#scoreboard.clear();
    const flight = distance(this.#max, this.#una);
    if (flight === 0 || this.#wnd === 0) this.#probeWindow();
    else {
      this.#congestion.timedOut(flight);
      // Even into a window that the peer has shrunk: one segment goes.
      this.#nxt = advance(this.#una, this.#resendFirst());
    }
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
    this.#owner.wake();
  }

  /** One byte into a closed window (RFC 9293 §3.8.6.1). */
  #probeWindow(): void {
    if (this.data.length === 0) {
      this.#resendFirst();
      return;
    }
    this.#owner.emit(this.#una, TcpFlag.ACK, 0, 1);
    // The byte is not counted as sent: it goes again, with more, when the window opens.
    const next = advance(this.#una, 1);
    if (distance(next, this.#max) > 0) this.#max = next;
  }
}
