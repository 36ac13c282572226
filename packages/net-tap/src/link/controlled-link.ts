import type { NetBackend, NetOffloads } from "@northbridge/sdk";
import { forwardOffloads } from "./forward-offloads.ts";
import { hostScheduler, type Scheduler } from "../scheduler.ts";
import { isGroupMac, macKey } from "../wire/address.ts";
import { Ethernet } from "../wire/spec.ts";
import { gather, lengthOf } from "./frame.ts";
import { type LinkControl, type LinkDirection, runLinkCommand } from "./link-commands.ts";
import { type RateLimit, TokenBucket } from "./token-bucket.ts";

export interface LinkControls {
  /** The only addresses the guest may send from, and besides group addresses the only ones it hears of. */
  readonly macs?: readonly Uint8Array[] | undefined;
  readonly limit?:
    | { readonly fromGuest?: RateLimit | undefined; readonly toGuest?: RateLimit | undefined }
    | undefined;
  readonly scheduler?: Scheduler | undefined;
}

/** Counters of an interface, seen from the host: what the guest sends comes in. */
export interface LinkStats {
  readonly isUp: number;
  readonly framesIn: number;
  readonly bytesIn: number;
  readonly framesOut: number;
  readonly bytesOut: number;
  /** Frames that the address filter swallowed. */
  readonly framesFiltered: number;
  /** Times a rate limit made a side wait. */
  readonly waits: number;
}

type Receive = (frame: Uint8Array, header?: Uint8Array) => boolean;

/** A back end with a filter of addresses, rate limits and counters. Its cable is pulled at the card. */
export class ControlledLink implements NetBackend, LinkControl {
  readonly offloads?: NetOffloads;
  readonly setOffloads?: (taken: NetOffloads) => void;
  readonly #inner: NetBackend;
  readonly #scheduler: Scheduler;
  #macs: ReadonlySet<number> | undefined;
  #fromGuest: TokenBucket | undefined;
  #toGuest: TokenBucket | undefined;
  readonly #counts = { framesIn: 0, bytesIn: 0, framesOut: 0, bytesOut: 0, framesFiltered: 0, waits: 0 };
  readonly #sourceMac = new Uint8Array(Ethernet.TYPE);
  #isUp = true;
  #onLink: ((isUp: boolean) => void) | undefined;
  #onWritable: () => void = () => undefined;

  constructor(inner: NetBackend, controls: LinkControls = {}) {
    this.#inner = inner;
    forwardOffloads(inner, this);
    this.#scheduler = controls.scheduler ?? hostScheduler;
    this.setMacs(controls.macs);
    this.#fromGuest = this.#bucket("fromGuest", controls.limit?.fromGuest);
    this.#toGuest = this.#bucket("toGuest", controls.limit?.toGuest);
    inner.watchLink?.((isUp) => {
      this.#isUp = isUp;
      this.#onLink?.(isUp);
    });
  }

  get mtu(): number {
    return this.#inner.mtu;
  }

  get stats(): LinkStats {
    return { isUp: Number(this.#isUp), ...this.#counts };
  }

  /** The only addresses that the guest may have from now on; `undefined`: any. */
  setMacs(macs: readonly Uint8Array[] | undefined): void {
    this.#macs = macs && new Set(macs.map((mac) => macKey(mac, 0)));
  }

  /** Limits one direction from now on; `undefined`: not at all. */
  setLimit(direction: LinkDirection, limit: RateLimit | undefined): void {
    const bucket = this.#bucket(direction, limit);
    if (direction === "toGuest") {
      this.#toGuest?.close();
      this.#toGuest = bucket;
    } else {
      this.#fromGuest?.close();
      this.#fromGuest = bucket;
    }
    this.#go(direction);
  }

  /** `stats`, `limit DIRECTION …`, `macs …`: see `runLinkCommand`. */
  monitorCommand(words: readonly string[]): Promise<string> {
    return Promise.resolve().then(() => runLinkCommand(words, this));
  }

  send(frame: readonly Uint8Array[], header?: Uint8Array): boolean {
    if (!this.#mayGuestSend(frame)) {
      this.#counts.framesFiltered += 1;
      return true;
    }
    if (this.#fromGuest?.mayPass() === false) {
      this.#counts.waits += 1;
      return false;
    }
    if (!this.#inner.send(frame, header)) return false;
    const length = lengthOf(frame);
    this.#fromGuest?.passed(length);
    this.#counts.framesIn += 1;
    this.#counts.bytesIn += length;
    return true;
  }

  connect(receive: Receive, onWritable: () => void): void {
    this.#onWritable = onWritable;
    this.#inner.connect((frame, header) => this.#deliver(frame, header, receive), onWritable);
  }

  resume(): void {
    this.#inner.resume();
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.#onLink = listener;
    listener(this.#isUp);
  }

  close(): Promise<void> {
    this.#fromGuest?.close();
    this.#toGuest?.close();
    return this.#inner.close();
  }

  #bucket(direction: LinkDirection, limit: RateLimit | undefined): TokenBucket | undefined {
    return (
      limit &&
      new TokenBucket(limit, this.#scheduler, () => {
        this.#go(direction);
      })
    );
  }

  /** Whoever waited for credit may try again. */
  #go(direction: LinkDirection): void {
    if (direction === "toGuest") this.#inner.resume();
    else this.#onWritable();
  }

  #deliver(frame: Uint8Array, header: Uint8Array | undefined, receive: Receive): boolean {
    const isForGuest = this.#macs === undefined || isGroupMac(frame, 0) || this.#macs.has(macKey(frame, 0));
    if (!isForGuest) {
      this.#counts.framesFiltered += 1;
      return true;
    }
    if (this.#toGuest?.mayPass() === false) {
      this.#counts.waits += 1;
      return false;
    }
    if (!receive(frame, header)) return false;
    this.#toGuest?.passed(frame.length);
    this.#counts.framesOut += 1;
    this.#counts.bytesOut += frame.length;
    return true;
  }

  #mayGuestSend(frame: readonly Uint8Array[]): boolean {
    if (this.#macs === undefined) return true;
    const head = this.#sourceMac;
    return gather(frame, head, 0) === head.length && this.#macs.has(macKey(head, Ethernet.SOURCE));
  }
}
