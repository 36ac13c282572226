import { type Clock, type NetBackend, NorthbridgeError, RestoreError } from "@northbridge/sdk";
import {
  type ConfigPart,
  FeatureSet,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { RateLimiter, type RateLimiterStateV1, type RateLimits } from "../rate-limiter.ts";
import { expectVersion } from "../saved-state.ts";
import { Card } from "./card.ts";
import { NetControl } from "./control.ts";
import { both, GUEST_OFFLOAD_FEATURES, guestOffloads, hostOffloads, NO_OFFLOADS } from "./offload-header.ts";
import { ReceiveFilter, type ReceiveFilterStateV1 } from "./receive-filter.ts";
import { Receiver } from "./receiver.ts";
import { Segmenter } from "./segmenter.ts";
import { Config, Feature, FULL_DUPLEX, Header, LinkStatus, REQUIRES, UNKNOWN } from "./spec.ts";
import { Transmitter } from "./transmitter.ts";

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
  readonly config: Uint8Array;
  readonly identity: readonly ConfigPart[] = [{ name: "speed", offset: Config.SPEED, length: 4 }];
  readonly #card: Card;
  readonly #backend: NetBackend;
  readonly #mac: Uint8Array;
  readonly #filter: ReceiveFilter;
  readonly #control: NetControl;
  readonly #receiver: Receiver;
  readonly #transmitter: Transmitter;
  readonly #limiters: { readonly receive?: RateLimiter; readonly transmit?: RateLimiter };
  /** The link is up where both are so. */
  #isPlugged = true;
  #isPeerThere = true;
  /** GUEST_* features in effect. */
  #guestFeatures = new FeatureSet();

  constructor(options: VirtioNetOptions) {
    const { backend, mac, pairs = 1, speedMbps, offloads = true, limits } = options;
    const card = new Card(backend, pairs);
    this.#card = card;
    this.#backend = backend;
    this.#mac = mac.slice();
    this.config = card.config;
    this.features = [
      ...[Feature.MTU, Feature.MAC, Feature.MRG_RXBUF, Feature.STATUS, Feature.CTRL_VQ, Feature.CTRL_RX],
      ...[Feature.CTRL_VLAN, Feature.CTRL_RX_EXTRA, Feature.GUEST_ANNOUNCE, Feature.CTRL_MAC_ADDR],
      ...(offloads ? OFFLOAD_FEATURES : []),
      ...(pairs > 1 ? [Feature.MQ] : []),
      ...(speedMbps === undefined ? [] : [Feature.SPEED_DUPLEX]),
    ];
    this.queues = [...new Array<number>(2 * pairs).fill(QUEUE_SIZE), CONTROL_QUEUE_SIZE];
    this.config.set(mac, Config.MAC);
    card.status = LinkStatus.LINK_UP;
    card.view.setUint16(Config.MAX_VIRTQUEUE_PAIRS, pairs, true);
    card.view.setUint16(Config.MTU, backend.mtu, true);
    card.view.setUint32(Config.SPEED, speedMbps ?? UNKNOWN.SPEED, true);
    card.view.setUint8(Config.DUPLEX, speedMbps === undefined ? UNKNOWN.DUPLEX : FULL_DUPLEX);
    this.#filter = new ReceiveFilter(this.config.subarray(Config.MAC, Config.MAC + 6));
    this.#control = new NetControl({
      filter: this.#filter,
      maxPairs: pairs,
      setMac: (address) => {
        this.config.set(address, Config.MAC);
      },
      announced: () => {
        card.status &= ~LinkStatus.ANNOUNCE;
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
      this.#transmitter.transmitAll();
    });
    this.#limiters = { ...(receive && { receive }), ...(transmit && { transmit }) };
    const segmenter = new Segmenter();
    this.#receiver = new Receiver(card, { filter: this.#filter, segmenter, limiter: receive });
    this.#transmitter = new Transmitter(card, segmenter, transmit);
    backend.connect(
      (frame, header) => this.#receiver.receive(frame, header),
      () => {
        this.#transmitter.transmitAll();
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
    pairs = Math.min(pairs, this.#card.maxPairs);
    if (pairs !== this.#card.pairs) this.#setPairs(pairs);
  }

  start(session: VirtioSession): void {
    const card = this.#card;
    card.session = session;
    const { features } = session;
    const hasBuffers = features.has(virtioSpec.Feature.VERSION_1) || features.has(Feature.MRG_RXBUF);
    card.headerLength = hasBuffers ? Header.LENGTH : Header.LEGACY_LENGTH;
    this.#receiver.start();
    this.#transmitter.offloads = hostOffloads(features);
    this.#setGuestFeatures(FeatureSet.of(GUEST_OFFLOAD_FEATURES.filter((bit) => features.has(bit))));
  }

  notify(index: number): void {
    if (this.#card.session === undefined) return;
    if (index === this.#controlQueue) this.#serveControl();
    else if (index % 2 === 0) this.#backend.resume();
    else this.#transmitter.transmit(index >> 1);
  }

  get isLinkUp(): boolean {
    return this.#card.isLinkUp;
  }

  /** Plugs or pulls the cable. What is sent or comes without one, or with nobody at its other end, is lost. */
  setLink(isUp: boolean): void {
    this.#isPlugged = isUp;
    this.#updateLink();
  }

  #updateLink(): void {
    const card = this.#card;
    if (card.isPaused) return; // `resume` looks again
    if ((this.#isPlugged && this.#isPeerThere) === card.isLinkUp) return;
    card.status ^= LinkStatus.LINK_UP;
    card.session?.configChanged();
  }

  /** Asks the driver to tell the network where it is now (§5.1.6.5.4). */
  announce(): void {
    const card = this.#card;
    if (card.session?.features.has(Feature.GUEST_ANNOUNCE) !== true) return;
    card.status |= LinkStatus.ANNOUNCE;
    card.session.configChanged();
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
    this.#card.session = undefined;
    this.#setPairs(1);
    this.#filter.reset();
    this.#transmitter.reset();
    this.#setGuestFeatures(new FeatureSet());
    this.config.set(this.#mac, Config.MAC);
    this.#card.status &= ~LinkStatus.ANNOUNCE;
  }

  resetQueue(index: number): void {
    if (index % 2 === 1) this.#transmitter.resetQueue(index >> 1);
  }

  pause(): void {
    this.#card.isPaused = true;
  }

  resume(): void {
    this.#card.isPaused = false;
    this.#updateLink(); // of a restored machine: who is at the other end now need not have been there
    if (this.#card.session === undefined) return;
    this.#serveControl();
    this.#backend.resume();
    this.#transmitter.transmitAll();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#card.counts, commandsRefused: this.#control.refused };
  }

  save(): VirtioNetStateV1 {
    const { receive, transmit } = this.#limiters;
    return {
      version: 1,
      pairs: this.#card.pairs,
      filter: this.#filter.save(),
      guestOffloads: [this.#guestFeatures.low, this.#guestFeatures.high],
      steering: this.#card.steering.save(),
      ...this.#transmitter.save(),
      isPlugged: this.#isPlugged,
      limiters: {
        ...(receive && { receive: receive.save() }),
        ...(transmit && { transmit: transmit.save() }),
      },
    };
  }

  restore(state: unknown): void {
    const saved = state as VirtioNetStateV1;
    expectVersion("virtioNet", saved.version);
    const { pairs, filter, guestOffloads: guest, steering, sentPieces, turn = 0, limiters } = saved;
    const { isPlugged = true } = saved;
    const card = this.#card;
    if (sentPieces.length !== card.maxPairs || pairs < 1 || pairs > card.maxPairs) {
      throw new RestoreError("virtioNet", `${sentPieces.length} queue pairs, expected ${card.maxPairs}`);
    }
    const mtu = card.view.getUint16(Config.MTU, true); // what the driver has been told
    if (mtu > this.#backend.mtu)
      throw new RestoreError(
        "virtioNet",
        `an MTU of ${mtu}, expected at most the link's ${this.#backend.mtu}`,
      );
    this.#isPlugged = isPlugged;
    card.pairs = pairs;
    this.#filter.restore(filter);
    card.steering.restore(steering);
    this.#transmitter.restore(sentPieces, turn);
    this.#setGuestFeatures(new FeatureSet(...guest));
    if (limiters?.receive !== undefined) this.#limiters.receive?.restore(limiters.receive);
    if (limiters?.transmit !== undefined) this.#limiters.transmit?.restore(limiters.transmit);
  }

  #setGuestFeatures(features: FeatureSet): void {
    this.#guestFeatures = features;
    this.#receiver.offloads = guestOffloads(features);
    this.#backend.setOffloads?.(both(this.#backend.offloads ?? NO_OFFLOADS, this.#receiver.offloads));
  }

  #setPairs(count: number): void {
    this.#card.pairs = count;
    this.#card.steering.reset();
  }

  /** Behind all pairs that the driver knows of; undefined where it takes none (§5.1.2). */
  get #controlQueue(): number | undefined {
    const features = this.#card.session?.features;
    if (features?.has(Feature.CTRL_VQ) !== true) return undefined;
    return features.has(Feature.MQ) ? 2 * this.#card.maxPairs : 2;
  }

  #serveControl(): void {
    const { session } = this.#card;
    const index = this.#controlQueue;
    const queue = index === undefined ? undefined : session?.queue(index);
    if (session !== undefined && queue !== undefined) this.#control.serve(queue, session.features);
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
