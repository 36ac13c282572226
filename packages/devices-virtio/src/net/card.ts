import type { NetBackend } from "@northbridge/sdk";
import type { VirtioSession } from "@northbridge/sdk/virtio";
import { Config, Header, LinkStatus } from "./spec.ts";
import { Steering } from "./steering.ts";

/** A card as both directions know it. */
export class Card {
  readonly backend: NetBackend;
  /** Queue pairs it has. */
  readonly maxPairs: number;
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly view: DataView = new DataView(this.config.buffer);
  readonly steering: Steering = new Steering();
  readonly counts = {
    framesIn: 0,
    framesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    dropped: 0,
    filtered: 0,
    segmented: 0,
    throttled: 0,
  };
  session: VirtioSession | undefined;
  isPaused = false;
  /** Queue pairs in use. */
  pairs = 1;
  /** Of the header in front of each frame. */
  headerLength: number = Header.LENGTH;

  constructor(backend: NetBackend, maxPairs: number) {
    this.backend = backend;
    this.maxPairs = maxPairs;
  }

  /** Of the link, and whether the driver is to announce itself (§5.1.4). */
  get status(): number {
    return this.view.getUint16(Config.STATUS, true);
  }

  set status(status: number) {
    this.view.setUint16(Config.STATUS, status, true);
  }

  get isLinkUp(): boolean {
    return (this.status & LinkStatus.LINK_UP) !== 0;
  }

  /** Counts a frame that is lost: it is done with. */
  drop(): true {
    this.counts.dropped++;
    return true;
  }
}
