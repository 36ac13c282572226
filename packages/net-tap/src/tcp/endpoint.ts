import { Alarm } from "../scheduler.ts";
import { TcpFlag } from "../wire/spec.ts";
import type { OutgoingSegment, TcpEndpointOptions, TcpOutput, TcpState, TcpUser } from "./contract.ts";
import { ReceiveSide } from "./receive-side.ts";
import type { Segment } from "./segment.ts";
import { SendSide } from "./send-side.ts";
import { advance, distance } from "./sequence.ts";
import { Timestamps } from "./timestamps.ts";

/** SACK blocks that fit beside timestamps (RFC 2018 §3): edges of them. */
const EDGES_BESIDE_TIMESTAMPS = 6;
/** Least time between answers to segments that nobody need answer (RFC 5961 §7). */
const CHALLENGE_MS = 500;

/**
 * One end of a TCP connection (RFC 9293), both openings, with window scaling (RFC 7323 §2), selective acknowledgment
 * (RFC 2018, 6675), timestamps (RFC 7323 §3) and the checks of RFC 5961 against blind resets. Not modelled: urgent data
 * (delivered in line), delayed acknowledgments other than those that one `flush` merges.
 */
export class TcpEndpoint {
  readonly #out: TcpOutput;
  readonly #user: TcpUser;
  readonly #options: TcpEndpointOptions;
  readonly #idle: Alarm;
  readonly #send: SendSide;
  readonly #receive: ReceiveSide;
  readonly #timestamps: Timestamps;
  /** The highest number that we have acknowledged. */
  #acknowledged = 0;
  readonly #segment: OutgoingSegment = {
    sequence: 0,
    acknowledgment: 0,
    flags: 0,
    window: 0,
    syn: undefined,
    sack: [],
    hasTimestamp: false,
    timestamp: 0,
    echo: 0,
  };
  #state: TcpState;
  #probes = 0;
  #challengedMs = -CHALLENGE_MS;

  private constructor(out: TcpOutput, user: TcpUser, options: TcpEndpointOptions, state: TcpState) {
    this.#out = out;
    this.#user = user;
    this.#options = options;
    this.#state = state;
    this.#timestamps = new Timestamps(out.scheduler, options.timestampOffset);
    this.#receive = new ReceiveSide(options.receiveBuffer, options.receiveLimit, (bytes) => {
      user.onData(bytes);
      return this.#isOpen();
    });
    this.#send = new SendSide(
      {
        scheduler: out.scheduler,
        hasRoom: () => out.hasRoom(),
        mostBytes: (mss) => out.mostBytes?.(mss) ?? mss,
        emit: (sequence, flags, offset, length) => {
          this.#emit(sequence, flags, offset, length);
        },
        sendSyn: () => {
          this.#sendSyn();
        },
        wake: () => {
          out.wake(this);
        },
        giveUp: () => {
          this.abort();
        },
      },
      options,
    );
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
    return this.#send.data.room;
  }

  get unacknowledgedBytes(): number {
    return this.#send.data.length;
  }

  /** Bytes of the peer that we hold out of order. */
  get heldBytes(): number {
    return this.#receive.heldBytes;
  }

  /** Next sequence number expected: for a SYN that reuses a connection in TIME_WAIT. */
  get receiveNext(): number {
    return this.#receive.next;
  }

  /** Queues all of `bytes`. */
  send(bytes: Uint8Array): void {
    if (this.#send.finWanted || this.#state === "CLOSED" || bytes.length === 0) return;
    this.#send.data.append(bytes);
    this.#out.wake(this);
  }

  /** No more to send: a FIN follows what is queued. */
  end(): void {
    if (this.#send.finWanted || this.#state === "CLOSED") return;
    this.#send.end();
    this.#out.wake(this);
  }

  /** The application is done with `length` bytes of `onData`. */
  consumed(length: number): void {
    const isWorthSaying = this.#receive.consumed(length, this.#send.mss);
    if (!isWorthSaying || this.#state === "CLOSED") return;
    this.#oweAck();
    this.#out.wake(this);
  }

  /** Ends the connection at once by a RST. */
  abort(): void {
    if (this.#state === "CLOSED") return;
    if (this.#state !== "SYN_SENT" && this.#state !== "TIME_WAIT") {
      this.#emit(this.#send.highest, TcpFlag.RST | TcpFlag.ACK, 0, 0);
    }
    this.#close(!this.#hasAllOfPeer());
  }

  /** Forgets the connection without a word: its back end closes. */
  dispose(): void {
    this.#state = "CLOSED";
    this.#send.close();
    this.#idle.close();
    this.#receive.clear();
  }

  /** Handles an arriving segment (RFC 9293 §3.10.7). Output follows in `flush`. */
  receive(segment: Segment): void {
    if (this.#state === "CLOSED") return;
    this.#probes = 0;
    if (this.#state === "SYN_SENT") this.#receiveInSynSent(segment);
    else this.#receiveSynchronized(segment);
    if (this.#isOpen()) this.#out.wake(this);
  }

  /** Sends what may be sent: data, FIN, and an acknowledgment where none went with data. */
  flush(): void {
    if (this.#state === "CLOSED" || this.#state === "SYN_SENT") return;
    if (this.#state !== "SYN_RECEIVED") this.#send.flush();
    if (this.#send.finSent) {
      if (this.#state === "ESTABLISHED") this.#state = "FIN_WAIT_1";
      else if (this.#state === "CLOSE_WAIT") this.#state = "LAST_ACK";
    }
    // With the highest number sent, also while a lost segment is sent again: a lower one would be answered, and that
    // answer again, for ever.
    while (this.#receive.acksOwed > 0 && this.#out.hasRoom()) {
      this.#receive.acksOwed -= 1;
      this.#emit(this.#send.highest, TcpFlag.ACK, 0, 0);
    }
  }

  // ---- opening

  #sendSyn(): void {
    const isPassive = this.#state === "SYN_RECEIVED";
    const segment = this.#segment;
    segment.sequence = this.#send.initialSequence;
    segment.acknowledgment = isPassive ? this.#receive.next : 0;
    segment.flags = TcpFlag.SYN | (isPassive ? TcpFlag.ACK : 0);
    segment.window = this.#receive.synWindow;
    segment.syn = { mss: this.#options.mss, windowScale: this.#receive.scale, sackPermitted: true };
    segment.sack.length = 0;
    segment.hasTimestamp = !isPassive || this.#timestamps.isOn;
    segment.timestamp = this.#timestamps.now;
    segment.echo = isPassive ? this.#timestamps.echo : 0;
    this.#acknowledged = segment.acknowledgment;
    this.#send.synSent();
    this.#out.transmit(segment, this.#send.data, 0, 0, this.#send.mss);
    segment.syn = undefined;
  }

  #learnSyn(segment: Segment): void {
    this.#receive.open(segment);
    this.#timestamps.open(segment);
    this.#acknowledged = this.#receive.next;
    this.#send.learn(segment);
  }

  #receiveInSynSent(segment: Segment): void {
    const { flags } = segment;
    const acknowledges = (flags & TcpFlag.ACK) !== 0;
    if (acknowledges && segment.acknowledgment !== this.#send.highest) {
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
    this.#send.opened(segment.acknowledgment);
    this.#oweAck();
    this.#establish();
  }

  #establish(): void {
    this.#state = "ESTABLISHED";
    this.#idle.arm(this.#options.keepAliveMs);
    this.#user.onEstablished();
  }

  // ---- receiving

  #receiveSynchronized(segment: Segment): void {
    const { flags, sequence, payload } = segment;
    const isSyn = (flags & TcpFlag.SYN) !== 0;
    const isSynAgain = isSyn && advance(sequence, 1) === this.#receive.next;
    if (this.#state === "SYN_RECEIVED" && isSynAgain && (flags & TcpFlag.RST) === 0) {
      // The SYN again; or with it the answer to ours, where both opened at once (§3.5, figure 7).
      if ((flags & TcpFlag.ACK) === 0) this.#sendSyn();
      else if (this.#isOpened(segment)) this.#oweAck();
      return;
    }
    if (this.#timestamps.isOn && (flags & TcpFlag.RST) === 0 && !this.#isOfNow(segment)) return;
    const length = payload.length + (isSyn ? 1 : 0) + ((flags & TcpFlag.FIN) === 0 ? 0 : 1);
    const windowLeft = this.#receive.windowLeft;
    const offset = distance(sequence, this.#receive.next);
    const inWindow =
      length === 0
        ? offset >= 0 && offset <= windowLeft
        : windowLeft > 0 && offset < windowLeft && offset + length > 0;
    if (!inWindow) {
      if ((flags & TcpFlag.RST) !== 0) return;
      if (length > 0 || offset === -1 || this.#mayChallenge()) this.#receive.acksOwed += 1;
      if (this.#state === "TIME_WAIT") this.#idle.arm(this.#options.timeWaitMs);
      // A probe of a closed window, and a keep-alive, still acknowledge (RFC 9293 §3.10.7.4).
      if (offset > 0 || offset < -1 || isSyn) return;
    }
    if ((flags & TcpFlag.RST) !== 0) {
      // RFC 5961 §3.2: only the exact sequence number resets.
      if (offset === 0) this.#close(!this.#hasAllOfPeer());
      else this.#receive.acksOwed += 1;
      return;
    }
    if (isSyn) {
      this.#receive.acksOwed += 1;
      return;
    }
    if (this.#timestamps.isOn) this.#timestamps.note(segment, this.#acknowledged);
    if ((flags & TcpFlag.ACK) === 0 || !this.#acknowledge(segment)) return;
    this.#idleAgain();
    if (inWindow && this.#receive.take(segment, offset)) this.#takeFin();
  }

  /** False where a segment has no timestamp (RFC 7323 §3.2), or one of the past, which is answered (§5.3). */
  #isOfNow(segment: Segment): boolean {
    if (!segment.hasTimestamp) return false;
    if (this.#timestamps.accepts(segment)) return true;
    if (segment.payload.length > 0 || this.#mayChallenge()) this.#receive.acksOwed += 1;
    return false;
  }

  /** Answers to empty segments from outside of the window are rare, or two ends answer each other for ever. */
  #mayChallenge(): boolean {
    const now = this.#out.scheduler.nowMs();
    if (now - this.#challengedMs < CHALLENGE_MS) return false;
    this.#challengedMs = now;
    return true;
  }

  /** A user's callback may have aborted: narrowing does not see that. */
  #isOpen(): boolean {
    return this.#state !== "CLOSED";
  }

  /** Both ends are done: a RST only ends the waiting (RFC 9293 §3.10.7.4, "second"), and takes nothing back. */
  #hasAllOfPeer(): boolean {
    return this.#state === "CLOSING" || this.#state === "LAST_ACK" || this.#state === "TIME_WAIT";
  }

  #takeFin(): void {
    if (this.#state === "ESTABLISHED") this.#state = "CLOSE_WAIT";
    else if (this.#state === "FIN_WAIT_1") this.#state = "CLOSING";
    else if (this.#state === "FIN_WAIT_2") this.#enterTimeWait();
    this.#user.onEnd();
  }

  /** Takes the acknowledgment of our SYN. False where the segment goes no further. */
  #isOpened(segment: Segment): boolean {
    if (!this.#send.opened(segment.acknowledgment)) {
      this.#emit(segment.acknowledgment, TcpFlag.RST, 0, 0);
      return false;
    }
    // A SYN's window is never scaled (RFC 7323 §2.2), and known from the first.
    if ((segment.flags & TcpFlag.SYN) === 0) this.#send.setWindow(segment);
    this.#establish();
    return this.#isOpen();
  }

  /** Processes the acknowledgment and the window. False where the segment goes no further. */
  #acknowledge(segment: Segment): boolean {
    if (this.#state === "SYN_RECEIVED") return this.#isOpened(segment);
    const what = this.#send.acknowledge(segment, this.#timestamps.roundTripMs(segment));
    if (what === "future") {
      this.#receive.acksOwed += 1;
      return false;
    }
    if (what === "nothing") return true;
    if (this.#send.finAcknowledged) {
      if (this.#state === "FIN_WAIT_1") this.#state = "FIN_WAIT_2";
      else if (this.#state === "CLOSING") this.#enterTimeWait();
      else if (this.#state === "LAST_ACK") {
        this.#close(false);
        return false;
      }
    }
    this.#user.onAcknowledged();
    return this.#isOpen();
  }

  // ---- sending

  #oweAck(): void {
    this.#receive.acksOwed = Math.max(1, this.#receive.acksOwed);
  }

  #emit(sequence: number, flags: number, offset: number, length: number): void {
    const segment = this.#segment;
    segment.sequence = sequence;
    segment.acknowledgment = this.#receive.next;
    segment.flags = flags;
    segment.window = this.#receive.windowField();
    segment.hasTimestamp = this.#timestamps.isOn;
    segment.timestamp = this.#timestamps.now;
    segment.echo = this.#timestamps.echo;
    this.#acknowledged = segment.acknowledgment;
    const carries = length > 0 || (flags & (TcpFlag.FIN | TcpFlag.RST)) !== 0;
    if (carries) {
      segment.sack.length = 0;
      if (this.#receive.mayMerge) this.#receive.acksOwed = 0;
    } else this.#sackBlocks(segment);
    this.#out.transmit(segment, this.#send.data, offset, length, this.#send.mss);
  }

  #sackBlocks(segment: OutgoingSegment): void {
    this.#receive.sackBlocks(segment.sack);
    if (segment.hasTimestamp) segment.sack.length = Math.min(segment.sack.length, EDGES_BESIDE_TIMESTAMPS);
  }

  // ---- time

  #idleAgain(): void {
    if (this.#state !== "TIME_WAIT") this.#idle.arm(this.#options.keepAliveMs);
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
    this.#emit(advance(this.#send.unacknowledged, -1), TcpFlag.ACK, 0, 0);
    this.#idle.arm(this.#options.keepAliveMs);
  }

  #enterTimeWait(): void {
    this.#state = "TIME_WAIT";
    this.#send.rest();
    this.#idle.arm(this.#options.timeWaitMs);
  }

  #close(reset: boolean): void {
    this.dispose();
    this.#user.onClosed(reset);
  }
}
