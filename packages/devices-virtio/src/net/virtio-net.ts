import {
  type Clock,
  type NetBackend,
  type NetOffloads,
  NorthbridgeError,
  RestoreError,
} from "@northbridge/sdk";
import {
  type ConfigPart,
  type DescriptorChain,
  FeatureSet,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { RateLimiter, type RateLimiterStateV1, type RateLimits } from "../rate-limiter.ts";
import { NetControl } from "./control.ts";
import {
  both,
  GUEST_OFFLOAD_FEATURES,
  guestOffloads,
  hostOffloads,
  NO_OFFLOADS,
  OffloadHeader,
} from "./offload-header.ts";
import { ReceiveFilter, type ReceiveFilterStateV1 } from "./receive-filter.ts";
import { Receiver } from "./receiver.ts";
import { Segmenter } from "./segmenter.ts";
import {
  Config,
  Feature,
  FULL_DUPLEX,
  Header,
  HeaderFlag,
  LinkStatus,
  MAX_FRAME,
  MIN_FRAME,
  REQUIRES,
  UNKNOWN,
} from "./spec.ts";
import { Steering } from "./steering.ts";

const QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;
/** Queue pairs a device may have. */
export const MAX_PAIRS = 16;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioNetStateV1 {
  readonly version: 1;
  /** Queue pairs in use. */
  readonly pairs: number;
  readonly filter: ReceiveFilterStateV1;
  /** GUEST_* features in effect, words low and high. */
  readonly guestOffloads: readonly [low: number, high: number];
  readonly steering: readonly number[];
  /** By pair: pieces of the first frame in the transmit queue that have left already. */
  readonly sentPieces: readonly number[];
  /** The transmit queue whose turn it is. Absent in older states. */
  readonly turn?: number;
  /** Whether the cable is in, whoever is at its other end. Absent in older states. */
  readonly isPlugged?: boolean;
  readonly limiters?: { readonly receive?: RateLimiterStateV1; readonly transmit?: RateLimiterStateV1 };
}

/** How much may pass; a direction that is absent is not limited. */
export interface NetLimits {
  readonly receive?: RateLimits | undefined;
  readonly transmit?: RateLimits | undefined;
}

export interface VirtioNetOptions {
  readonly backend: NetBackend;
  readonly mac: Uint8Array;
  /** Queue pairs, 1 to 16. @defaultValue 1 */
  readonly pairs?: number | undefined;
  /** Speed of the link in Mb/s, full duplex. @defaultValue unknown */
  readonly speedMbps?: number | undefined;
  /** Whether a driver may leave checksums and segmentation undone. @defaultValue true */
  readonly offloads?: boolean | undefined;
  readonly limits?: { readonly rates: NetLimits; readonly clock: Clock } | undefined;
}

/**
 * Network device (virtio 1.3 §5.1). A received frame that finds no buffer stays with the back end; a frame for which
 * the back end has no room stays in the transmit queue. What drivers leave undone goes to a back end that takes it, and
 * is done here for others. Not modelled: hashes and RSS, coalescing of notifications, UFO, RSC of checksummed frames.
 */
export class VirtioNet implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.NET;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly identity: readonly ConfigPart[] = [{ name: "speed", offset: Config.SPEED, length: 4 }];
  readonly #backend: NetBackend;
  readonly #mac: Uint8Array;
  readonly #maxPairs: number;
  readonly #view: DataView = new DataView(this.config.buffer);
  readonly #counts = {
    framesIn: 0,
    framesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    dropped: 0,
    filtered: 0,
    segmented: 0,
    throttled: 0,
  };
  readonly #filter: ReceiveFilter;
  readonly #control: NetControl;
  readonly #receiver = new Receiver();
  readonly #segmenter = new Segmenter();
  readonly #steering = new Steering();
  readonly #undone = new OffloadHeader();
  readonly #header: Uint8Array = new Uint8Array(Header.LENGTH);
  readonly #sentPieces: number[];
  readonly #limiters: { readonly receive?: RateLimiter; readonly transmit?: RateLimiter };
  /** Of the header in front of each frame. */
  #headerLength: number = Header.LENGTH;
  #session: VirtioSession | undefined;
  #isPaused = false;
  /** The link is up where both are so. */
  #isPlugged = true;
  #isPeerThere = true;
  #pairs = 1;
  #guestFeatures = new FeatureSet();
  /** What the driver may leave to us, and what to it may be left now. */
  #hostOffloads: NetOffloads = NO_OFFLOADS;
  #guestOffloads: NetOffloads = NO_OFFLOADS;
  /** Where the turn of transmit queues begins that waited for the link. */
  #turn = 0;

  constructor(options: VirtioNetOptions) {
    const { backend, mac, pairs = 1, speedMbps, offloads = true, limits } = options;
    this.#backend = backend;
    this.#mac = mac.slice();
    this.#maxPairs = pairs;
    this.features = [
      ...[Feature.MTU, Feature.MAC, Feature.MRG_RXBUF, Feature.STATUS, Feature.CTRL_VQ, Feature.CTRL_RX],
      ...[Feature.CTRL_VLAN, Feature.CTRL_RX_EXTRA, Feature.GUEST_ANNOUNCE, Feature.CTRL_MAC_ADDR],
      ...(offloads ? OFFLOAD_FEATURES : []),
      ...(pairs > 1 ? [Feature.MQ] : []),
      ...(speedMbps === undefined ? [] : [Feature.SPEED_DUPLEX]),
    ];
    this.queues = [...new Array<number>(2 * pairs).fill(QUEUE_SIZE), CONTROL_QUEUE_SIZE];
    this.config.set(mac, Config.MAC);
    this.#view.setUint16(Config.STATUS, LinkStatus.LINK_UP, true);
    this.#view.setUint16(Config.MAX_VIRTQUEUE_PAIRS, pairs, true);
    this.#view.setUint16(Config.MTU, backend.mtu, true);
    this.#view.setUint32(Config.SPEED, speedMbps ?? UNKNOWN.SPEED, true);
    this.#view.setUint8(Config.DUPLEX, speedMbps === undefined ? UNKNOWN.DUPLEX : FULL_DUPLEX);
    this.#sentPieces = new Array<number>(pairs).fill(0);
    this.#filter = new ReceiveFilter(this.config.subarray(Config.MAC, Config.MAC + 6));
    this.#control = new NetControl({
      filter: this.#filter,
      maxPairs: pairs,
      setMac: (address) => {
        this.config.set(address, Config.MAC);
      },
      announced: () => {
        this.#setStatus(this.#status & ~LinkStatus.ANNOUNCE);
      },
      setPairs: (count) => {
        this.#setPairs(count);
      },
      setGuestOffloads: (features) => {
        this.#setGuestFeatures(features);
      },
    });
    const limiter = (rates: RateLimits | undefined, onReady: () => void): RateLimiter | undefined =>
      rates === undefined || limits === undefined ? undefined : new RateLimiter(rates, limits.clock, onReady);
    const receive = limiter(limits?.rates.receive, () => {
      this.#backend.resume();
    });
    const transmit = limiter(limits?.rates.transmit, () => {
      this.#transmitAll();
    });
    this.#limiters = { ...(receive && { receive }), ...(transmit && { transmit }) };
    backend.connect(
      (frame, header) => this.#receive(frame, header),
      () => {
        this.#transmitAll();
      },
    );
    backend.watchLink?.((isUp) => {
      this.#isPeerThere = isUp;
      this.#updateLink();
    });
  }

  acceptFeatures(features: FeatureSet): boolean {
    return REQUIRES.every(
      ([bit, needs]) => !features.has(bit) || needs.some((needed) => features.has(needed)),
    );
  }

  useQueues(inUse: readonly boolean[]): void {
    let pairs = 1;
    while (inUse[2 * pairs] === true && inUse[2 * pairs + 1] === true) pairs++;
    pairs = Math.min(pairs, this.#maxPairs);
    if (pairs !== this.#pairs) this.#setPairs(pairs);
  }

  start(session: VirtioSession): void {
    this.#session = session;
    const { features } = session;
    const hasBuffers = features.has(virtioSpec.Feature.VERSION_1) || features.has(Feature.MRG_RXBUF);
    this.#headerLength = hasBuffers ? Header.LENGTH : Header.LEGACY_LENGTH;
    this.#receiver.headerLength = this.#headerLength;
    this.#hostOffloads = hostOffloads(features);
    this.#setGuestFeatures(FeatureSet.of(GUEST_OFFLOAD_FEATURES.filter((bit) => features.has(bit))));
  }

  notify(index: number): void {
    const features = this.#session?.features;
    if (features === undefined) return;
    const control = features.has(Feature.MQ) ? 2 * this.#maxPairs : 2;
    if (index === control && features.has(Feature.CTRL_VQ)) this.#serveControl();
    else if (index % 2 === 0) this.#backend.resume();
    else this.#transmit(index >> 1);
  }

  get isLinkUp(): boolean {
    return (this.#status & LinkStatus.LINK_UP) !== 0;
  }

  /** Plugs or pulls the cable. What is sent or comes without one, or with nobody at its other end, is lost. */
  setLink(isUp: boolean): void {
    this.#isPlugged = isUp;
    this.#updateLink();
  }

  #updateLink(): void {
    if (this.#isPaused) return; // `resume` looks again
    if ((this.#isPlugged && this.#isPeerThere) === this.isLinkUp) return;
    this.#setStatus(this.#status ^ LinkStatus.LINK_UP);
    this.#session?.configChanged();
  }

  /** Asks the driver to tell the network where it is now (§5.1.6.5.4). */
  announce(): void {
    if (this.#session?.features.has(Feature.GUEST_ANNOUNCE) !== true) return;
    this.#setStatus(this.#status | LinkStatus.ANNOUNCE);
    this.#session.configChanged();
  }

  /** `link up`, `link down`, `announce`, and what the back end answers. */
  monitorCommand(words: readonly string[]): Promise<string> {
    switch (words.join(" ")) {
      case "link up":
      case "link down":
        this.setLink(words[1] === "up");
        return Promise.resolve(words.join(" "));
      case "announce":
        this.announce();
        return Promise.resolve("the guest was asked to announce itself");
      default:
        if (this.#backend.monitorCommand !== undefined) return this.#backend.monitorCommand(words);
        return Promise.reject(
          new NorthbridgeError(
            "NB_CONFIG",
            `expected link up, link down or announce, found ${words.join(" ") || "nothing"}`,
          ),
        );
    }
  }

  reset(): void {
    this.#session = undefined;
    this.#pairs = 1;
    this.#filter.reset();
    this.#steering.reset();
    this.#sentPieces.fill(0);
    this.#turn = 0;
    this.#hostOffloads = NO_OFFLOADS;
    this.#setGuestFeatures(new FeatureSet());
    this.config.set(this.#mac, Config.MAC);
    this.#setStatus(this.#status & ~LinkStatus.ANNOUNCE);
  }

  resetQueue(index: number): void {
    if (index % 2 === 1) this.#sentPieces[index >> 1] = 0;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#updateLink(); // of a restored machine: who is at the other end now need not have been there
    if (this.#session === undefined) return;
    this.#serveControl();
    this.#backend.resume();
    this.#transmitAll();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts, commandsRefused: this.#control.refused };
  }

  save(): VirtioNetStateV1 {
    const { receive, transmit } = this.#limiters;
    return {
      version: 1,
      pairs: this.#pairs,
      filter: this.#filter.save(),
      guestOffloads: [this.#guestFeatures.low, this.#guestFeatures.high],
      steering: this.#steering.save(),
      sentPieces: [...this.#sentPieces],
      turn: this.#turn,
      isPlugged: this.#isPlugged,
      limiters: {
        ...(receive && { receive: receive.save() }),
        ...(transmit && { transmit: transmit.save() }),
      },
    };
  }

  restore(state: unknown): void {
    const saved = state as VirtioNetStateV1;
    const { version, pairs, filter, guestOffloads: guest, steering, sentPieces, turn = 0, limiters } = saved;
    const { isPlugged = true } = saved;
    const found: unknown = version;
    if (found !== 1) throw new RestoreError("virtioNet", `version ${String(found)}, expected 1`);
    if (sentPieces.length !== this.#maxPairs || pairs < 1 || pairs > this.#maxPairs) {
      throw new RestoreError("virtioNet", `${sentPieces.length} queue pairs, expected ${this.#maxPairs}`);
    }
    const mtu = this.#view.getUint16(Config.MTU, true); // what the driver has been told
    if (mtu > this.#backend.mtu)
      throw new RestoreError(
        "virtioNet",
        `an MTU of ${mtu}, expected at most the link's ${this.#backend.mtu}`,
      );
    this.#isPlugged = isPlugged;
    this.#pairs = pairs;
    this.#filter.restore(filter);
    this.#steering.restore(steering);
    sentPieces.forEach((count, pair) => (this.#sentPieces[pair] = count));
    this.#turn = turn % this.#maxPairs;
    this.#setGuestFeatures(new FeatureSet(...guest));
    if (limiters?.receive !== undefined) this.#limiters.receive?.restore(limiters.receive);
    if (limiters?.transmit !== undefined) this.#limiters.transmit?.restore(limiters.transmit);
  }

  get #status(): number {
    return this.#view.getUint16(Config.STATUS, true);
  }

  #setStatus(status: number): void {
    this.#view.setUint16(Config.STATUS, status, true);
  }

  #setGuestFeatures(features: FeatureSet): void {
    this.#guestFeatures = features;
    this.#guestOffloads = guestOffloads(features);
    this.#backend.setOffloads?.(both(this.#backend.offloads ?? NO_OFFLOADS, this.#guestOffloads));
  }

  #setPairs(count: number): void {
    this.#pairs = count;
    this.#steering.reset();
  }

  #serveControl(): void {
    const features = this.#session?.features;
    if (features?.has(Feature.CTRL_VQ) !== true) return;
    const queue = this.#session?.queue(features.has(Feature.MQ) ? 2 * this.#maxPairs : 2);
    if (queue !== undefined) this.#control.serve(queue, features);
  }

  /** Whatever waits in the transmit queues, beginning with another one each time. */
  #transmitAll(): void {
    for (let i = 0; i < this.#maxPairs; i++) {
      if (!this.#transmit((this.#turn + i) % this.#maxPairs)) break;
    }
    this.#turn = (this.#turn + 1) % this.#maxPairs;
  }

  /** False where the link is full, or enough has been sent for now. */
  #transmit(pair: number): boolean {
    if (pair > 0 && this.#session?.features.has(Feature.MQ) !== true) return true;
    const queue = this.#session?.queue(2 * pair + 1);
    if (queue === undefined || this.#isPaused) return true;
    do {
      queue.disableNotifications();
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        const length = Math.max(0, chain.readableBytes - this.#headerLength); // what is shorter is no frame
        const isAllowed = this.#limiters.transmit?.allows(length) ?? true;
        if (!isAllowed) this.#counts.throttled++;
        if (!isAllowed || !this.#send(chain, pair)) {
          queue.unpop(chain);
          queue.flush();
          return false; // the limiter or the back end says when there is room
        }
        this.#limiters.transmit?.pay(length);
        queue.push(chain, 0);
      }
    } while (!queue.enableNotifications());
    queue.flush();
    return true;
  }

  /** Sends one frame, or drops what is none. False where the link is full. */
  #send(chain: DescriptorChain, pair: number): boolean {
    const length = chain.readableBytes - this.#headerLength;
    if (length < MIN_FRAME || length > MAX_FRAME || !this.isLinkUp) return this.#dropSent(pair);
    if (chain.readU16(Header.FLAGS) !== 0) return this.#sendUndone(chain, length, pair);
    const parts = chain.readable(this.#headerLength, length);
    if (this.#pairs > 1 && parts[0] !== undefined) this.#steering.sent(parts[0], pair);
    if (!this.#backend.send(parts)) return false;
    this.#counts.framesOut++;
    this.#counts.bytesOut += length;
    return true;
  }

  /** As `#send`, of a frame whose checksum or segmentation is left to us. */
  #sendUndone(chain: DescriptorChain, length: number, pair: number): boolean {
    const header = this.#header;
    const undone = this.#undone;
    chain.read(0, header);
    undone.read(header);
    if (!undone.fits(length) || !undone.isWithin(this.#hostOffloads)) return this.#dropSent(pair);
    if (undone.isWithin(this.#backend.offloads ?? NO_OFFLOADS)) {
      header[Header.FLAGS] = undone.flags & HeaderFlag.NEEDS_CSUM;
      header.fill(0, Header.NUM_BUFFERS);
      const parts = chain.readable(this.#headerLength, length);
      if (this.#pairs > 1 && parts[0] !== undefined) this.#steering.sent(parts[0], pair);
      if (!this.#backend.send(parts, header)) return false;
      this.#counts.framesOut++;
      this.#counts.bytesOut += length;
      return true;
    }
    const segmenter = this.#segmenter;
    chain.read(this.#headerLength, segmenter.frame.subarray(0, length));
    if (this.#pairs > 1) this.#steering.sent(segmenter.frame, pair);
    if (!segmenter.begin(length, undone)) return this.#dropSent(pair);
    for (let index = this.#sentPieces[pair] ?? 0; index < segmenter.count; index++) {
      if (!this.#backend.send(segmenter.piece(index))) {
        this.#sentPieces[pair] = index;
        return false;
      }
      this.#counts.framesOut++;
    }
    this.#sentPieces[pair] = 0;
    if (segmenter.count > 1) this.#counts.segmented++;
    this.#counts.bytesOut += length;
    return true;
  }

  /** A frame of which some pieces may have left, before the cable was pulled. */
  #dropSent(pair: number): true {
    this.#sentPieces[pair] = 0;
    return this.#drop();
  }

  #drop(): true {
    this.#counts.dropped++;
    return true;
  }

  /** Puts a frame into the driver's buffers. False where there are not enough of them. */
  #receive(frame: Uint8Array, header: Uint8Array | undefined): boolean {
    const session = this.#session;
    if (session === undefined || this.#isPaused) return false;
    const { features } = session;
    if (frame.length < MIN_FRAME || frame.length > MAX_FRAME || !this.isLinkUp) return this.#drop();
    if (!this.#filter.wants(frame, features.has(Feature.CTRL_VLAN))) {
      this.#counts.filtered++;
      return true;
    }
    if (this.#limiters.receive?.allows(frame.length) === false) {
      this.#counts.throttled++;
      return false;
    }
    const pair = this.#pairs > 1 ? this.#steering.pairOf(frame) % this.#pairs : 0;
    const queue = session.queue(2 * pair);
    if (queue === undefined) return false;
    const whole = this.#prepare(frame, header);
    if (whole === undefined) return this.#drop();
    const delivery = this.#receiver.deliver(queue, whole, features.has(Feature.MRG_RXBUF));
    if (delivery === "noBuffers") return false;
    if (delivery === "tooSmall") return this.#drop();
    this.#limiters.receive?.pay(frame.length);
    this.#counts.framesIn++;
    this.#counts.bytesIn += frame.length;
    return true;
  }

  /** The frame as the driver takes it, its header in the receiver's; undefined where it takes no such frame. */
  #prepare(frame: Uint8Array, header: Uint8Array | undefined): Uint8Array | undefined {
    const out = this.#receiver.header;
    out.fill(0);
    if (header === undefined) return frame;
    const undone = this.#undone;
    undone.read(header);
    if (!undone.needsChecksum && !undone.isLarge) {
      if (this.#guestOffloads.checksum) out[Header.FLAGS] = undone.flags & HeaderFlag.DATA_VALID;
      return frame;
    }
    if (!undone.fits(frame.length)) return undefined;
    if (undone.isWithin(this.#guestOffloads)) {
      out.set(header.subarray(0, Header.NUM_BUFFERS));
      return frame;
    }
    if (undone.isLarge) return undefined; // the back end was told not to
    const { frame: copy } = this.#segmenter;
    copy.set(frame);
    this.#segmenter.begin(frame.length, undone);
    return copy.subarray(0, frame.length);
  }
}

const OFFLOAD_FEATURES: readonly number[] = [
  Feature.CSUM,
  Feature.HOST_TSO4,
  Feature.HOST_TSO6,
  Feature.HOST_ECN,
  Feature.HOST_USO,
  Feature.CTRL_GUEST_OFFLOADS,
  ...GUEST_OFFLOAD_FEATURES,
];
