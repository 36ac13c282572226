import { Alarm, type Scheduler } from "../scheduler.ts";
import { TcpFlag } from "../wire/spec.ts";
import { ByteRing } from "./byte-ring.ts";
import { Reassembly } from "./reassembly.ts";
import type { Segment } from "./segment.ts";
import { CongestionWindow, RoundTrip } from "./send-window.ts";
import { advance, distance } from "./sequence.ts";

/** States of RFC 9293 §3.3.2, without LISTEN: who listens makes an endpoint when a SYN comes. */
export type TcpState =
  | "SYN_SENT"
  | "SYN_RECEIVED"
  | "ESTABLISHED"
  | "FIN_WAIT_1"
  | "FIN_WAIT_2"
  | "CLOSE_WAIT"
  | "CLOSING"
  | "LAST_ACK"
  | "TIME_WAIT"
  | "CLOSED";

/** The network below an endpoint. */
export interface TcpOutput {
  readonly scheduler: Scheduler;
  /** False: segments with data wait. The endpoint's `flush` is called when there is room again. */
  hasRoom(): boolean;
  /** Sends a segment whose payload is `length` bytes at `offset` of `ring`. `mss` and `windowScale` come with a SYN. */
  transmit(
    sequence: number,
    acknowledgment: number,
    flags: number,
    window: number,
    data: ByteRing,
    offset: number,
    length: number,
    syn: SynOptions | undefined,
  ): void;
  /** Asks for a `flush` soon. */
  wake(endpoint: TcpEndpoint): void;
}

export interface SynOptions {
  readonly mss: number;
  /** −1: leave the option out. */
  readonly windowScale: number;
}

/** The application above an endpoint. */
export interface TcpUser {
  onEstablished(): void;
  /** Bytes in order; valid during the call. Give room back with `consumed`. */
  onData(bytes: Uint8Array): void;
  /** The peer will send no more. */
  onEnd(): void;
  /** Bytes given to `send` were acknowledged. */
  onAcknowledged(): void;
  /** The connection is gone. `reset`: it did not end in order. Called once, the last call of all. */
  onClosed(reset: boolean): void;
}

export interface TcpEndpointOptions {
  /** Our limit on what we send and announce. */
  readonly mss: number;
  readonly receiveBuffer: number;
  readonly sendBuffer: number;
  readonly initialSequence: number;
  /** Idle time before a keep-alive probe (RFC 9293 §3.8.4), and between probes. */
  readonly keepAliveMs: number;
  readonly keepAliveProbes: number;
  readonly timeWaitMs: number;
  readonly mostRetransmissions: number;
}

/** Least time between answers to segments that nobody need answer (RFC 5961 §7). */
const CHALLENGE_MS = 500;

/**
 * One end of a TCP connection (RFC 9293), both openings, with window scaling (RFC 7323 §2), fast retransmission
 * (RFC 5681, 6582) and the checks of RFC 5961 against blind resets. Not modelled: urgent data (delivered in line),
 * timestamps, SACK, delayed acknowledgments other than those that one `flush` merges.
 */
export class TcpEndpoint {
  readonly #out: TcpOutput;
  readonly #user: TcpUser;
  readonly #options: TcpEndpointOptions;
  readonly #retransmit: Alarm;
  readonly #idle: Alarm;
  readonly #sent: ByteRing;
  readonly #reassembly = new Reassembly();
  readonly #roundTrip = new RoundTrip();
  #congestion: CongestionWindow;
  #state: TcpState;
  #mss: number;

  // Sequence variables of RFC 9293 §3.3.1. `sndMax` is the highest `sndNxt` there has been.
  readonly #iss: number;
  #sndUna: number;
  #sndNxt: number;
  #sndMax: number;
  #sndWnd = 0;
  #sndWl1 = 0;
  #sndWl2 = 0;
  #sndScale = 0;
  #rcvNxt = 0;
  #rcvEdge = 0;
  #rcvScale: number;
  #unread = 0;
  #recover = 0;

  #finWanted = false;
  #finFrom: number | undefined;
  #peerFin: number | undefined;
  #peerEnded = false;
  #acksOwed = 0;
  #retransmissions = 0;
  #probes = 0;
  #timedSequence: number | undefined;
  #timedAtMs = 0;
  #challengedMs = -CHALLENGE_MS;

  private constructor(out: TcpOutput, user: TcpUser, options: TcpEndpointOptions, state: TcpState) {
    this.#out = out;
    this.#user = user;
    this.#options = options;
    this.#state = state;
    this.#sent = new ByteRing(options.sendBuffer);
    this.#mss = options.mss;
    this.#congestion = new CongestionWindow(options.mss);
    this.#iss = options.initialSequence >>> 0;
    this.#sndUna = this.#iss;
    this.#sndNxt = this.#iss;
    this.#sndMax = this.#iss;
    this.#rcvScale = Math.max(0, 32 - Math.clz32(options.receiveBuffer >>> 16));
    this.#retransmit = new Alarm(out.scheduler, () => {
      this.#onRetransmitTimer();
    });
    this.#idle = new Alarm(out.scheduler, () => {
      this.#onIdleTimer();
    });
  }

  /** Opens actively: sends a SYN. */
  static connect(out: TcpOutput, user: TcpUser, options: TcpEndpointOptions): TcpEndpoint {
    const endpoint = new TcpEndpoint(out, user, options, "SYN_SENT");
    endpoint.#sendSyn();
    return endpoint;
  }

  /** Opens passively: answers the SYN `segment`. */
  static accept(out: TcpOutput, user: TcpUser, options: TcpEndpointOptions, segment: Segment): TcpEndpoint {
    const endpoint = new TcpEndpoint(out, user, options, "SYN_RECEIVED");
    endpoint.#learnSyn(segment);
    endpoint.#sendSyn();
    return endpoint;
  }

  get state(): TcpState {
    return this.#state;
  }

  /** What `send` takes before the application should wait. */
  get sendRoom(): number {
    return this.#sent.room;
  }

  get unacknowledgedBytes(): number {
    return this.#sent.length;
  }

  /** Bytes of the peer that we hold out of order. */
  get heldBytes(): number {
    return this.#reassembly.heldBytes;
  }

  /** Next sequence number expected: for a SYN that reuses a connection in TIME_WAIT. */
  get receiveNext(): number {
    return this.#rcvNxt;
  }

  /** Queues all of `bytes`. */
  send(bytes: Uint8Array): void {
    if (this.#finWanted || this.#state === "CLOSED" || bytes.length === 0) return;
    this.#sent.append(bytes);
    this.#out.wake(this);
  }

  /** No more to send: a FIN follows what is queued. */
  end(): void {
    if (this.#finWanted || this.#state === "CLOSED") return;
    this.#finWanted = true;
    this.#out.wake(this);
  }

  /** The application is done with `length` bytes of `onData`. */
  consumed(length: number): void {
    this.#unread -= length;
    if (this.#state === "CLOSED") return;
    const gain = distance(advance(this.#rcvNxt, this.#receiveRoom()), this.#rcvEdge);
    // Silly window avoidance (RFC 9293 §3.8.6.2.2): an opening worth a segment or half the buffer is announced.
    if (gain >= Math.min(this.#options.receiveBuffer / 2, 2 * this.#mss)) {
      this.#acksOwed = Math.max(1, this.#acksOwed);
      this.#out.wake(this);
    }
  }

  /** Ends the connection at once by a RST. */
  abort(): void {
    if (this.#state === "CLOSED") return;
    if (this.#state !== "SYN_SENT" && this.#state !== "TIME_WAIT") {
      this.#emit(this.#sndMax, TcpFlag.RST | TcpFlag.ACK, 0, 0);
    }
    this.#close(true);
  }

  /** Forgets the connection without a word: its back end closes. */
  dispose(): void {
    this.#state = "CLOSED";
    this.#retransmit.close();
    this.#idle.close();
  }

  /** Handles an arriving segment (RFC 9293 §3.10.7). Output follows in `flush`. */
  receive(segment: Segment): void {
    if (this.#state === "CLOSED") return;
    this.#probes = 0;
    if (this.#state === "SYN_SENT") this.#receiveInSynSent(segment);
    else this.#receiveSynchronized(segment);
    if (this.#stillOpen()) this.#out.wake(this);
  }

  /** Sends what may be sent: data, FIN, and an acknowledgment where none went with data. */
  flush(): void {
    if (this.#state === "CLOSED" || this.#state === "SYN_SENT" || this.#state === "SYN_RECEIVED") return;
    this.#sendData();
    // With the highest number sent, also while a lost segment is sent again: a lower one would be answered, and that
    // answer again, for ever.
    while (this.#acksOwed > 0) this.#emit(this.#sndMax, TcpFlag.ACK, 0, 0, true);
  }

  // ---- opening

  #sendSyn(): void {
    const passive = this.#state === "SYN_RECEIVED";
    this.#sndNxt = advance(this.#iss, 1);
    this.#sndMax = this.#sndNxt;
    this.#timedSequence = this.#retransmissions === 0 ? this.#sndNxt : undefined;
    this.#timedAtMs = this.#out.scheduler.nowMs();
    // The window of a SYN is never scaled (RFC 7323 §2.2).
    const window = Math.min(0xffff, this.#options.receiveBuffer);
    if (passive) this.#rcvEdge = advance(this.#rcvNxt, window);
    this.#out.transmit(
      this.#iss,
      passive ? this.#rcvNxt : 0,
      TcpFlag.SYN | (passive ? TcpFlag.ACK : 0),
      window,
      this.#sent,
      0,
      0,
      { mss: this.#options.mss, windowScale: this.#rcvScale },
    );
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
  }

  #learnSyn(segment: Segment): void {
    this.#rcvNxt = advance(segment.sequence, 1);
    this.#rcvEdge = advance(this.#rcvNxt, Math.min(0xffff, this.#options.receiveBuffer));
    // RFC 9293 §3.7.1: 536 without the option.
    const mss = segment.mss === 0 ? 536 : Math.max(64, segment.mss);
    this.#mss = Math.min(this.#options.mss, mss);
    this.#congestion = new CongestionWindow(this.#mss);
    if (segment.windowScale >= 0) this.#sndScale = segment.windowScale;
    else this.#rcvScale = -1;
    this.#sndWnd = segment.window;
    this.#sndWl1 = segment.sequence;
    this.#sndWl2 = segment.acknowledgment;
  }

  #receiveInSynSent(segment: Segment): void {
    const { flags } = segment;
    const acknowledges = (flags & TcpFlag.ACK) !== 0;
    if (acknowledges && segment.acknowledgment !== this.#sndNxt) {
      if ((flags & TcpFlag.RST) === 0) this.#emit(segment.acknowledgment, TcpFlag.RST, 0, 0);
      return;
    }
    if ((flags & TcpFlag.RST) !== 0) {
      if (acknowledges) this.#close(true);
      return;
    }
    if ((flags & TcpFlag.SYN) === 0) return;
    this.#learnSyn(segment);
    if (!acknowledges) {
      // Both opened at once (RFC 9293 §3.5, figure 7).
      this.#state = "SYN_RECEIVED";
      this.#sendSyn();
      return;
    }
    this.#sndUna = segment.acknowledgment;
    this.#acksOwed = 1;
    this.#establish();
  }

  #establish(): void {
    this.#state = "ESTABLISHED";
    if (this.#timedSequence !== undefined) {
      this.#roundTrip.sample(this.#out.scheduler.nowMs() - this.#timedAtMs);
    }
    this.#timedSequence = undefined;
    this.#retransmissions = 0;
    this.#retransmit.disarm();
    this.#idle.arm(this.#options.keepAliveMs);
    this.#user.onEstablished();
  }

  // ---- receiving

  #receiveSynchronized(segment: Segment): void {
    const { flags, sequence, payload } = segment;
    if (
      this.#state === "SYN_RECEIVED" &&
      (flags & TcpFlag.SYN) !== 0 &&
      advance(sequence, 1) === this.#rcvNxt
    ) {
      if ((flags & TcpFlag.ACK) === 0) {
        this.#sendSyn();
        return;
      }
    }
    const length =
      payload.length + ((flags & TcpFlag.SYN) === 0 ? 0 : 1) + ((flags & TcpFlag.FIN) === 0 ? 0 : 1);
    const windowLeft = Math.max(0, distance(this.#rcvEdge, this.#rcvNxt));
    const offset = distance(sequence, this.#rcvNxt);
    const inWindow =
      length === 0
        ? offset >= 0 && offset <= windowLeft
        : windowLeft > 0 && offset < windowLeft && offset + length > 0;
    if (!inWindow) {
      if ((flags & TcpFlag.RST) !== 0) return;
      if (length > 0 || offset === -1 || this.#mayChallenge()) this.#acksOwed += 1;
      if (this.#state === "TIME_WAIT") this.#idle.arm(this.#options.timeWaitMs);
      // A probe of a closed window, and a keep-alive, still acknowledge (RFC 9293 §3.10.7.4).
      if (offset > 0 || offset < -1 || (flags & TcpFlag.SYN) !== 0) return;
    }
    if ((flags & TcpFlag.RST) !== 0) {
      // RFC 5961 §3.2: only the exact sequence number resets.
      if (offset === 0) this.#close(true);
      else this.#acksOwed += 1;
      return;
    }
    if ((flags & TcpFlag.SYN) !== 0) {
      this.#acksOwed += 1;
      return;
    }
    if ((flags & TcpFlag.ACK) === 0 || !this.#acknowledge(segment)) return;
    this.#idleAgain();
    if (!inWindow) return;
    this.#takeText(segment, offset, windowLeft);
  }

  /** Answers to empty segments from outside of the window are rare, or two ends answer each other for ever. */
  #mayChallenge(): boolean {
    const now = this.#out.scheduler.nowMs();
    if (now - this.#challengedMs < CHALLENGE_MS) return false;
    this.#challengedMs = now;
    return true;
  }

  #takeText(segment: Segment, offset: number, windowLeft: number): void {
    if (this.#peerEnded) {
      if (segment.payload.length > 0 || (segment.flags & TcpFlag.FIN) !== 0) this.#acksOwed += 1;
      return;
    }
    const { payload } = segment;
    if ((segment.flags & TcpFlag.FIN) !== 0 && offset + payload.length <= windowLeft) {
      this.#peerFin ??= advance(segment.sequence, payload.length);
      this.#acksOwed = Math.max(1, this.#acksOwed);
    }
    const from = Math.max(0, -offset);
    const to = Math.min(payload.length, windowLeft - offset);
    if (to > from) {
      const text = payload.subarray(from, to);
      if (offset <= 0) {
        this.#deliver(text);
        this.#acksOwed = Math.max(1, this.#acksOwed);
        this.#drainReassembly();
      } else {
        this.#reassembly.insert(advance(segment.sequence, from), text);
        // One acknowledgment for each, so that the peer counts its duplicates (RFC 5681 §4.2).
        this.#acksOwed += 1;
      }
    }
    if (this.#stillOpen() && this.#peerFin === this.#rcvNxt) this.#takeFin();
  }

  /** A user's callback may have aborted: narrowing does not see that. */
  #stillOpen(): boolean {
    return this.#state !== "CLOSED";
  }

  #deliver(text: Uint8Array): void {
    // Nothing beyond the peer's FIN is data.
    const length =
      this.#peerFin === undefined
        ? text.length
        : Math.min(text.length, distance(this.#peerFin, this.#rcvNxt));
    if (length <= 0) return;
    this.#rcvNxt = advance(this.#rcvNxt, length);
    this.#unread += length;
    this.#user.onData(length === text.length ? text : text.subarray(0, length));
  }

  #drainReassembly(): void {
    for (;;) {
      const bytes = this.#reassembly.take(this.#rcvNxt);
      if (bytes === undefined || !this.#stillOpen()) return;
      this.#deliver(bytes);
    }
  }

  #takeFin(): void {
    this.#peerEnded = true;
    this.#rcvNxt = advance(this.#rcvNxt, 1);
    this.#rcvEdge = advance(this.#rcvEdge, 1);
    this.#reassembly.clear();
    this.#acksOwed = Math.max(1, this.#acksOwed);
    if (this.#state === "ESTABLISHED") this.#state = "CLOSE_WAIT";
    else if (this.#state === "FIN_WAIT_1") this.#state = "CLOSING";
    else if (this.#state === "FIN_WAIT_2") this.#enterTimeWait();
    this.#user.onEnd();
  }

  /** Processes the acknowledgment and the window. False where the segment goes no further. */
  #acknowledge(segment: Segment): boolean {
    const { acknowledgment } = segment;
    if (this.#state === "SYN_RECEIVED") {
      if (acknowledgment !== this.#sndNxt) {
        this.#emit(acknowledgment, TcpFlag.RST, 0, 0);
        return false;
      }
      this.#sndUna = acknowledgment;
      this.#setWindow(segment);
      this.#establish();
      return this.#stillOpen();
    }
    if (distance(acknowledgment, this.#sndMax) > 0) {
      this.#acksOwed += 1;
      return false;
    }
    const gained = distance(acknowledgment, this.#sndUna);
    if (gained < 0) return true;
    const scaled = segment.window << this.#sndScale;
    if (gained === 0) {
      const flight = distance(this.#sndMax, this.#sndUna);
      // A duplicate in the sense of RFC 5681 §2.
      if (
        flight > 0 &&
        segment.payload.length === 0 &&
        (segment.flags & TcpFlag.FIN) === 0 &&
        scaled === this.#sndWnd &&
        this.#congestion.duplicate(flight)
      ) {
        this.#recover = this.#sndMax;
        this.#resendFirst();
      }
      this.#setWindow(segment);
      return true;
    }
    this.#setWindow(segment);
    return this.#advanceUna(acknowledgment, gained);
  }

  #setWindow(segment: Segment): void {
    const newer = distance(segment.sequence, this.#sndWl1);
    if (newer < 0 || (newer === 0 && distance(segment.acknowledgment, this.#sndWl2) < 0)) return;
    const opened = this.#sndWnd === 0;
    this.#sndWnd = segment.window << this.#sndScale;
    this.#sndWl1 = segment.sequence;
    this.#sndWl2 = segment.acknowledgment;
    if (opened && this.#sndWnd > 0) {
      this.#retransmissions = 0;
      this.#roundTrip.progress();
      this.#sndNxt = this.#sndUna;
      this.#retransmit.disarm();
    }
    // A peer that answers probes is alive, however long its window stays closed (RFC 9293 §3.8.6.1).
    if (this.#sndWnd === 0) this.#retransmissions = Math.min(this.#retransmissions, 6);
  }

  #advanceUna(acknowledgment: number, gained: number): boolean {
    const finAcknowledged = this.#finFrom !== undefined && distance(acknowledgment, this.#finFrom) > 0;
    this.#sent.drop(Math.min(this.#sent.length, finAcknowledged ? gained - 1 : gained));
    this.#sndUna = acknowledgment;
    if (distance(this.#sndNxt, acknowledgment) < 0) this.#sndNxt = acknowledgment;
    this.#retransmissions = 0;
    if (this.#timedSequence !== undefined && distance(acknowledgment, this.#timedSequence) >= 0) {
      this.#roundTrip.sample(this.#out.scheduler.nowMs() - this.#timedAtMs);
      this.#timedSequence = undefined;
    }
    this.#roundTrip.progress();
    if (!this.#congestion.recovering) this.#congestion.acknowledged(gained);
    else if (distance(acknowledgment, this.#recover) >= 0) this.#congestion.recovered();
    else {
      this.#congestion.partial(gained);
      this.#resendFirst();
    }
    if (distance(this.#sndMax, this.#sndUna) > 0) this.#retransmit.arm(this.#roundTrip.timeoutMs);
    else this.#retransmit.disarm();
    if (finAcknowledged) {
      if (this.#state === "FIN_WAIT_1") this.#state = "FIN_WAIT_2";
      else if (this.#state === "CLOSING") this.#enterTimeWait();
      else if (this.#state === "LAST_ACK") {
        this.#close(false);
        return false;
      }
    }
    this.#user.onAcknowledged();
    return this.#stillOpen();
  }

  // ---- sending

  #sendData(): void {
    for (;;) {
      const flight = distance(this.#sndNxt, this.#sndUna);
      const waiting = this.#sent.length - flight;
      if (waiting <= 0) break;
      const usable = Math.min(this.#sndWnd, this.#congestion.bytes) - flight;
      if (usable <= 0 || !this.#out.hasRoom()) break;
      const length = Math.min(this.#mss, waiting, usable);
      // Sender's silly window avoidance (RFC 9293 §3.8.6.2.1): no crumbs while something is under way.
      if (length < this.#mss && length < waiting && flight > 0) break;
      if (this.#timedSequence === undefined && this.#sndNxt === this.#sndMax) {
        this.#timedSequence = advance(this.#sndNxt, length);
        this.#timedAtMs = this.#out.scheduler.nowMs();
      }
      const push = length === waiting ? TcpFlag.PSH : 0;
      this.#emit(this.#sndNxt, TcpFlag.ACK | push, flight, length);
      this.#moveNext(length);
    }
    if (this.#finWanted && distance(this.#sndNxt, this.#sndUna) === this.#sent.length) this.#sendFin();
    const nothingUnderWay = this.#sndMax === this.#sndUna;
    if (nothingUnderWay && this.#sent.length > 0 && this.#sndWnd === 0 && !this.#retransmit.armed) {
      this.#retransmit.arm(this.#roundTrip.timeoutMs);
    }
  }

  #sendFin(): void {
    if (this.#finFrom === undefined) {
      this.#finFrom = this.#sndNxt;
      if (this.#state === "ESTABLISHED") this.#state = "FIN_WAIT_1";
      else if (this.#state === "CLOSE_WAIT") this.#state = "LAST_ACK";
    } else if (this.#sndNxt !== this.#finFrom) return;
    this.#emit(this.#sndNxt, TcpFlag.FIN | TcpFlag.ACK, 0, 0);
    this.#moveNext(1);
  }

  #moveNext(by: number): void {
    this.#sndNxt = advance(this.#sndNxt, by);
    if (distance(this.#sndNxt, this.#sndMax) > 0) this.#sndMax = this.#sndNxt;
    if (!this.#retransmit.armed) this.#retransmit.arm(this.#roundTrip.timeoutMs);
  }

  #resendFirst(): void {
    this.#timedSequence = undefined;
    const length = Math.min(this.#mss, this.#sent.length);
    if (length > 0) this.#emit(this.#sndUna, TcpFlag.ACK, 0, length);
    else if (this.#finFrom === this.#sndUna) this.#emit(this.#sndUna, TcpFlag.FIN | TcpFlag.ACK, 0, 0);
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
  }

  #emit(sequence: number, flags: number, offset: number, length: number, owed = false): void {
    const edge = advance(this.#rcvNxt, this.#receiveRoom());
    // The edge never goes back (RFC 9293 §3.8.6.2.2).
    if (distance(edge, this.#rcvEdge) > 0) this.#rcvEdge = edge;
    const scale = Math.max(0, this.#rcvScale);
    const window = Math.min(0xffff, Math.max(0, distance(this.#rcvEdge, this.#rcvNxt)) >>> scale);
    if (owed) this.#acksOwed -= 1;
    else if ((flags & TcpFlag.ACK) !== 0 && this.#acksOwed === 1) this.#acksOwed = 0;
    this.#out.transmit(sequence, this.#rcvNxt, flags, window, this.#sent, offset, length, undefined);
  }

  #receiveRoom(): number {
    const room = Math.max(0, this.#options.receiveBuffer - this.#unread);
    return this.#rcvScale < 0 ? Math.min(0xffff, room) : room;
  }

  // ---- time

  #onRetransmitTimer(): void {
    this.#retransmissions += 1;
    if (this.#retransmissions > this.#options.mostRetransmissions) {
      this.abort();
      return;
    }
    this.#roundTrip.backOff();
    this.#timedSequence = undefined;
    if (this.#state === "SYN_SENT" || this.#state === "SYN_RECEIVED") {
      this.#sendSyn();
      return;
    }
    const flight = distance(this.#sndMax, this.#sndUna);
    if (flight === 0 || this.#sndWnd === 0) this.#probeWindow();
    else {
      this.#congestion.timedOut(flight);
      this.#sndNxt = this.#sndUna;
      // Even into a window that the peer has shrunk: one segment goes.
      this.#resendFirst();
      this.#sndNxt = advance(this.#sndUna, Math.min(this.#mss, this.#sent.length));
      if (this.#sent.length === 0) this.#sndNxt = this.#sndMax;
    }
    this.#retransmit.arm(this.#roundTrip.timeoutMs);
    this.#out.wake(this);
  }

  /** One byte into a closed window (RFC 9293 §3.8.6.1). */
  #probeWindow(): void {
    if (this.#sent.length === 0) {
      this.#resendFirst();
      return;
    }
    this.#emit(this.#sndUna, TcpFlag.ACK, 0, 1);
    // The byte is not counted as sent: it goes again, with more, when the window opens.
    const next = advance(this.#sndUna, 1);
    if (distance(next, this.#sndMax) > 0) this.#sndMax = next;
  }

  #idleAgain(): void {
    if (this.#state === "TIME_WAIT") return;
    this.#idle.arm(this.#options.keepAliveMs);
  }

  #onIdleTimer(): void {
    if (this.#state === "TIME_WAIT") {
      this.#close(false);
      return;
    }
    this.#probes += 1;
    if (this.#probes > this.#options.keepAliveProbes) {
      this.abort();
      return;
    }
    this.#emit(advance(this.#sndUna, -1), TcpFlag.ACK, 0, 0);
    this.#idle.arm(this.#options.keepAliveMs);
  }

  #enterTimeWait(): void {
    this.#state = "TIME_WAIT";
    this.#retransmit.disarm();
    this.#idle.arm(this.#options.timeWaitMs);
  }

  #close(reset: boolean): void {
    this.dispose();
    this.#reassembly.clear();
    this.#user.onClosed(reset);
  }
}
