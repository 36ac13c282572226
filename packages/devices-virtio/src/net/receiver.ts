import type { NetOffloads } from "@northbridge/sdk";
import type { DescriptorChain, VirtQueue } from "@northbridge/sdk/virtio";
import type { RateLimiter } from "../rate-limiter.ts";
import type { Card } from "./card.ts";
import { NO_OFFLOADS, OffloadHeader } from "./offload-header.ts";
import type { ReceiveFilter } from "./receive-filter.ts";
import type { Segmenter } from "./segmenter.ts";
import { Feature, Header, HeaderFlag, MAX_FRAME, MIN_FRAME } from "./spec.ts";

/** How putting a frame into a receive queue ended. */
type Delivery = "delivered" | "noBuffers" | "tooSmall";

/**
 * Puts frames that the guest wants into the buffers of receive queues, one frame into several where the driver allows
 * it. One that finds no buffer stays with the back end. What is undone of it and the driver does not take is done here.
 */
export class Receiver {
  /** What may be left undone for the driver now. */
  offloads: NetOffloads = NO_OFFLOADS;
  readonly #card: Card;
  readonly #filter: ReceiveFilter;
  readonly #segmenter: Segmenter;
  readonly #limiter: RateLimiter | undefined;
  readonly #undone = new OffloadHeader();
  /** Of the frame that comes next. */
  readonly #header: Uint8Array = new Uint8Array(Header.LENGTH);
  /** As much of it as the driver takes. */
  #sent: Uint8Array = this.#header;
  /** Chains one frame is going to fill. */
  readonly #taken: DescriptorChain[] = [];

  constructor(
    card: Card,
    deps: {
      readonly filter: ReceiveFilter;
      readonly segmenter: Segmenter;
      readonly limiter: RateLimiter | undefined;
    },
  ) {
    this.#card = card;
    this.#filter = deps.filter;
    this.#segmenter = deps.segmenter;
    this.#limiter = deps.limiter;
  }

  /** The driver has chosen how long headers are. */
  start(): void {
    this.#sent = this.#header.subarray(0, this.#card.headerLength);
  }

  /** Puts a frame into the driver's buffers. False where there are not enough of them. */
  receive(frame: Uint8Array, header: Uint8Array | undefined): boolean {
    const { session, isPaused, isLinkUp, pairs, steering, counts } = this.#card;
    if (session === undefined || isPaused) return false;
    const { features } = session;
    if (frame.length < MIN_FRAME || frame.length > MAX_FRAME || !isLinkUp) return this.#card.drop();
    if (!this.#filter.wants(frame, features.has(Feature.CTRL_VLAN))) {
      counts.filtered++;
      return true;
    }
    if (this.#limiter?.allows(frame.length) === false) {
      counts.throttled++;
      return false;
    }
    const pair = pairs > 1 ? steering.pairOf(frame) % pairs : 0;
    const queue = session.queue(2 * pair);
    if (queue === undefined) return false;
    const whole = this.#prepare(frame, header);
    if (whole === undefined) return this.#card.drop();
    const delivery = this.#deliver(queue, whole, features.has(Feature.MRG_RXBUF));
    if (delivery === "noBuffers") return false;
    if (delivery === "tooSmall") return this.#card.drop();
    this.#limiter?.pay(frame.length);
    counts.framesIn++;
    counts.bytesIn += frame.length;
    return true;
  }

  /** The frame as the driver takes it, with its header; undefined where it takes no such frame. */
  #prepare(frame: Uint8Array, header: Uint8Array | undefined): Uint8Array | undefined {
    const out = this.#header;
    out.fill(0);
    if (header === undefined) return frame;
    const undone = this.#undone;
    undone.read(header);
    if (!undone.needsChecksum && !undone.isLarge) {
      if (this.offloads.checksum) out[Header.FLAGS] = undone.flags & HeaderFlag.DATA_VALID;
      return frame;
    }
    if (!undone.fits(frame.length)) return undefined;
    if (undone.isWithin(this.offloads)) {
      out.set(header.subarray(0, Header.NUM_BUFFERS));
      return frame;
    }
    if (undone.isLarge) return undefined; // the back end was told not to
    const { frame: copy } = this.#segmenter;
    copy.set(frame);
    this.#segmenter.begin(frame.length, undone);
    return copy.subarray(0, frame.length);
  }

  /** @param mayMerge one frame may take several buffers (MRG_RXBUF) */
  #deliver(queue: VirtQueue, frame: Uint8Array, mayMerge: boolean): Delivery {
    const taken = this.#taken;
    taken.length = 0;
    const headerLength = this.#sent.length;
    const needed = headerLength + frame.length;
    for (let room = 0; room < needed; ) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (!queue.enableNotifications()) continue; // one came in meanwhile
        for (let last = taken.pop(); last !== undefined; last = taken.pop()) queue.unpop(last);
        return "noBuffers";
      }
      taken.push(chain);
      room += chain.writableBytes;
      if ((!mayMerge && room < needed) || chain.writableBytes < headerLength) {
        // Too small for what the driver promised (§5.1.6.3.1): the frame is lost, the buffers go back empty.
        for (const small of taken) queue.push(small, 0);
        queue.flush();
        return "tooSmall";
      }
    }
    this.#header[Header.NUM_BUFFERS] = taken.length & 0xff;
    this.#header[Header.NUM_BUFFERS + 1] = taken.length >> 8;
    let sent = 0;
    for (let index = 0; index < taken.length; index++) {
      const chain = taken[index];
      if (chain === undefined) break;
      const at = index === 0 ? chain.write(0, this.#sent) : 0;
      const written = chain.write(at, sent === 0 ? frame : frame.subarray(sent));
      sent += written;
      queue.push(chain, at + written);
    }
    queue.flush();
    return "delivered";
  }
}
