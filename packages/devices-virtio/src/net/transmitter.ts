import type { NetOffloads } from "@northbridge/sdk";
import type { DescriptorChain } from "@northbridge/sdk/virtio";
import type { RateLimiter } from "../rate-limiter.ts";
import type { Card } from "./card.ts";
import { NO_OFFLOADS, OffloadHeader } from "./offload-header.ts";
import type { Segmenter } from "./segmenter.ts";
import { Feature, Header, HeaderFlag, MAX_FRAME, MIN_FRAME } from "./spec.ts";

/**
 * Takes frames out of transmit queues. One for which the back end has no room stays there. What drivers leave undone
 * goes to a back end that takes it, and is done here for others.
 */
export class Transmitter {
  /** What the driver may leave undone. */
  offloads: NetOffloads = NO_OFFLOADS;
  readonly #card: Card;
  readonly #segmenter: Segmenter;
  readonly #limiter: RateLimiter | undefined;
  readonly #undone = new OffloadHeader();
  readonly #header: Uint8Array = new Uint8Array(Header.LENGTH);
  /** By pair: pieces of the first frame in the queue that have left already. */
  readonly #sentPieces: number[];
  /** Where the turn of queues begins that waited for the link. */
  #turn = 0;

  constructor(card: Card, segmenter: Segmenter, limiter: RateLimiter | undefined) {
    this.#card = card;
    this.#segmenter = segmenter;
    this.#limiter = limiter;
    this.#sentPieces = new Array<number>(card.maxPairs).fill(0);
  }

  reset(): void {
    this.offloads = NO_OFFLOADS;
    this.#sentPieces.fill(0);
    this.#turn = 0;
  }

  resetQueue(pair: number): void {
    this.#sentPieces[pair] = 0;
  }

  save(): { readonly sentPieces: readonly number[]; readonly turn: number } {
    return { sentPieces: [...this.#sentPieces], turn: this.#turn };
  }

  restore(sentPieces: readonly number[], turn: number): void {
    sentPieces.forEach((count, pair) => (this.#sentPieces[pair] = count));
    this.#turn = turn % this.#card.maxPairs;
  }

  /** Whatever waits in the queues, beginning with another one each time. */
  transmitAll(): void {
    const { maxPairs } = this.#card;
    for (let i = 0; i < maxPairs; i++) {
      if (!this.transmit((this.#turn + i) % maxPairs)) break;
    }
    this.#turn = (this.#turn + 1) % maxPairs;
  }

  /** False where the link is full, or enough has been sent for now. */
  transmit(pair: number): boolean {
    const { session, isPaused, headerLength, counts } = this.#card;
    if (pair > 0 && session?.features.has(Feature.MQ) !== true) return true;
    const queue = session?.queue(2 * pair + 1);
    if (queue === undefined || isPaused) return true;
    do {
      queue.disableNotifications();
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        const length = Math.max(0, chain.readableBytes - headerLength); // what is shorter is no frame
        const isAllowed = this.#limiter?.allows(length) ?? true;
        if (!isAllowed) counts.throttled++;
        if (!isAllowed || !this.#send(chain, pair)) {
          queue.unpop(chain);
          queue.flush();
          return false; // the limiter or the back end says when there is room
        }
        this.#limiter?.pay(length);
        queue.push(chain, 0);
      }
    } while (!queue.enableNotifications());
    queue.flush();
    return true;
  }

  /** Sends one frame, or drops what is none. False where the link is full. */
  #send(chain: DescriptorChain, pair: number): boolean {
    const { headerLength, isLinkUp } = this.#card;
    const length = chain.readableBytes - headerLength;
    if (length < MIN_FRAME || length > MAX_FRAME || !isLinkUp) return this.#drop(pair);
    return chain.readU16(Header.FLAGS) === 0
      ? this.#sendWhole(chain, length, pair)
      : this.#sendUndone(chain, length, pair);
  }

  /** @param header what is undone of it, for a back end that takes that on */
  #sendWhole(chain: DescriptorChain, length: number, pair: number, header?: Uint8Array): boolean {
    const { backend, headerLength, pairs, steering, counts } = this.#card;
    const parts = chain.readable(headerLength, length);
    if (pairs > 1 && parts[0] !== undefined) steering.sent(parts[0], pair);
    if (!backend.send(parts, header)) return false;
    counts.framesOut++;
    counts.bytesOut += length;
    return true;
  }

  /** As `#send`, of a frame whose checksum or segmentation is left to us. */
  #sendUndone(chain: DescriptorChain, length: number, pair: number): boolean {
    const { backend } = this.#card;
    const header = this.#header;
    const undone = this.#undone;
    chain.read(0, header);
    undone.read(header);
    if (!undone.fits(length) || !undone.isWithin(this.offloads)) return this.#drop(pair);
    if (!undone.isWithin(backend.offloads ?? NO_OFFLOADS)) return this.#sendPieces(chain, length, pair);
    header[Header.FLAGS] = undone.flags & HeaderFlag.NEEDS_CSUM;
    header.fill(0, Header.NUM_BUFFERS);
    return this.#sendWhole(chain, length, pair, header);
  }

  /** What the header says is undone is done here. */
  #sendPieces(chain: DescriptorChain, length: number, pair: number): boolean {
    const { backend, headerLength, pairs, steering, counts } = this.#card;
    const segmenter = this.#segmenter;
    chain.read(headerLength, segmenter.frame.subarray(0, length));
    if (pairs > 1) steering.sent(segmenter.frame, pair);
    if (!segmenter.begin(length, this.#undone)) return this.#drop(pair);
    for (let index = this.#sentPieces[pair] ?? 0; index < segmenter.count; index++) {
      if (!backend.send(segmenter.piece(index))) {
        this.#sentPieces[pair] = index;
        return false;
      }
      counts.framesOut++;
    }
    this.#sentPieces[pair] = 0;
    if (segmenter.count > 1) counts.segmented++;
    counts.bytesOut += length;
    return true;
  }

  /** A frame of which some pieces may have left, before the cable was pulled. */
  #drop(pair: number): true {
    this.#sentPieces[pair] = 0;
    return this.#card.drop();
  }
}
