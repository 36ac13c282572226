import type { NetBackend } from "@northbridge/sdk";
import { checkMtu, gather, lengthOf, LONGEST_FRAME } from "../link/frame.ts";
import { FrameQueue } from "../link/frame-queue.ts";
import { patch } from "../link/patch.ts";
import { hostScheduler, type Scheduler } from "../scheduler.ts";
import { formatMac, isGroupMac, macKey } from "../wire/address.ts";
import { Ethernet } from "../wire/spec.ts";
import { isLooping, type Sighting, sighted } from "./loop-guard.ts";

/** Options of `ethernetSwitch()`. */
export interface SwitchOptions {
  /** `false`: a hub, which sends everything to everyone. @defaultValue true */
  readonly learns?: boolean | undefined;
  /** @defaultValue 1500 */
  readonly mtu?: number | undefined;
  readonly scheduler?: Scheduler | undefined;
  /** Two ports lead to each other; one was cut off for a while. `address` is of whose frames went round. */
  readonly onLoop?: ((address: string) => void) | undefined;
}

/** Frames that wait while another is on its way; more are lost. */
const MOST_NESTED = 256;
const MOST_ADDRESSES = 4096;
/** What a guest makes up at one port leaves room for the others. */
const MOST_OF_PORT = 1024;
/** Frames that one sets off by coming in: those of consumers that answer at once, or the same one going round. */
const MOST_AT_ONCE = 1024;
/** IEEE 802.1Q §8.8.3, the recommended ageing time. */
const AGEING_MS = 300_000;
const SWEEP_MS = 1000;
/** How long a port is cut off that leads to another one of the switch. */
const CUT_MS = 10_000;

interface Learnt extends Sighting<SwitchPort> {
  /** Where it counts. */
  readonly at: SwitchPort;
  seenMs: number;
}

/** A learning Ethernet switch (IEEE 802.1D §7.7, §7.8) in this process, without spanning tree. */
export class EthernetSwitch {
  readonly mtu: number;
  readonly #learns: boolean;
  readonly #scheduler: Scheduler;
  readonly #onLoop: ((address: string) => void) | undefined;
  readonly #ports = new Set<SwitchPort>();
  readonly #addresses = new Map<number, Learnt>();
  readonly #frame = new Uint8Array(LONGEST_FRAME);
  /** Frames that were sent while another was on its way: a port's consumer may answer inside its `receive`. */
  readonly #nested: { readonly from: SwitchPort; readonly frame: Uint8Array }[] = [];
  #isForwarding = false;
  #sweepMs = 0;
  framesForwarded = 0;
  framesFlooded = 0;
  framesDropped = 0;
  loopsCut = 0;

  /** Throws `NB_CONFIG`. */
  constructor(options: SwitchOptions = {}) {
    this.mtu = checkMtu(options.mtu);
    this.#learns = options.learns ?? true;
    this.#scheduler = options.scheduler ?? hostScheduler;
    this.#onLoop = options.onLoop;
  }

  get stats(): Readonly<Record<string, number>> {
    const { framesForwarded, framesFlooded, framesDropped, loopsCut } = this;
    return {
      framesForwarded,
      framesFlooded,
      framesDropped,
      loopsCut,
      ports: this.#ports.size,
      addresses: this.#addresses.size,
    };
  }

  /** A new port, for one consumer. It goes with its `close`. */
  port(): NetBackend {
    const port = new SwitchPort(this);
    this.#ports.add(port);
    return port;
  }

  /** Joins another back end to a port: a NAT, a tap, another switch. Closing it is the caller's. */
  uplink(backend: NetBackend): void {
    patch(this.port(), backend);
  }

  /** For ports: takes a frame in parts. */
  take(from: SwitchPort, parts: readonly Uint8Array[]): void {
    const length = lengthOf(parts);
    if (length < Ethernet.HEADER_LENGTH || length > LONGEST_FRAME) {
      this.framesDropped += 1;
      return;
    }
    if (this.#isForwarding) {
      const frame = new Uint8Array(length);
      gather(parts, frame, 0);
      if (this.#nested.length < MOST_NESTED) this.#nested.push({ from, frame });
      else this.framesDropped += 1;
      return;
    }
    gather(parts, this.#frame, 0);
    this.#isForwarding = true;
    try {
      this.#forward(from, this.#frame.subarray(0, length));
      let left = MOST_AT_ONCE;
      for (let next = this.#nested.shift(); next !== undefined; next = this.#nested.shift()) {
        left -= 1;
        if (left >= 0) this.#forward(next.from, next.frame);
        else this.#cut(next.from, next.frame);
      }
    } finally {
      this.#isForwarding = false;
    }
  }

  /** For ports: one is gone. */
  remove(port: SwitchPort): void {
    this.#ports.delete(port);
    for (const [key, { port: last, home }] of this.#addresses)
      if (last === port || home === port) this.#forget(key);
  }

  #forward(from: SwitchPort, frame: Uint8Array): void {
    if (from.cutUntilMs > this.#scheduler.nowMs()) {
      this.framesDropped += 1;
      return;
    }
    // A group address is nobody's (IEEE 802-2014 §8.2.2).
    if (isGroupMac(frame, Ethernet.SOURCE)) {
      this.framesDropped += 1;
      return;
    }
    if (!this.#learn(frame, from)) return;
    const to = !this.#learns || isGroupMac(frame, 0) ? undefined : this.#addresses.get(macKey(frame, 0));
    if (to !== undefined && this.#scheduler.nowMs() - to.seenMs < AGEING_MS) {
      if (to.port === from) return;
      this.framesForwarded += 1;
      if (!to.port.offer(frame)) this.framesDropped += 1;
      return;
    }
    this.framesFlooded += 1;
    const now = this.#scheduler.nowMs();
    for (const port of this.#ports) {
      if (port !== from && port.cutUntilMs <= now && !port.offer(frame)) this.framesDropped += 1;
    }
  }

  /** False where the frame has been here before: its port leads to another one. */
  #learn(frame: Uint8Array, port: SwitchPort): boolean {
    const now = this.#scheduler.nowMs();
    const key = macKey(frame, Ethernet.SOURCE);
    const known = this.#addresses.get(key);
    if (known !== undefined) {
      known.seenMs = now;
      if (!isLooping(known, port, now)) return true;
      known.port = known.home;
      known.moves = 0;
      this.#cut(port, frame);
      return false;
    }
    const isFull = (): boolean => port.addresses >= MOST_OF_PORT || this.#addresses.size >= MOST_ADDRESSES;
    if (isFull()) this.#sweep(now);
    // A full table floods, and learns again as entries age: no guest makes it grow.
    if (isFull()) return true;
    port.addresses += 1;
    this.#addresses.set(key, { ...sighted(port), at: port, seenMs: now });
    return true;
  }

  /** Not at each frame: a guest that makes up addresses would have the whole table searched for each. */
  #sweep(now: number): void {
    if (now < this.#sweepMs) return;
    this.#sweepMs = now + SWEEP_MS;
    for (const [old, { seenMs }] of this.#addresses) if (now - seenMs >= AGEING_MS) this.#forget(old);
  }

  #forget(key: number): void {
    const known = this.#addresses.get(key);
    if (known === undefined) return;
    known.at.addresses -= 1;
    this.#addresses.delete(key);
  }

  /** Cuts off a port that leads to another one, by which `frame` came round. */
  #cut(port: SwitchPort, frame: Uint8Array): void {
    const now = this.#scheduler.nowMs();
    this.framesDropped += 1;
    if (port.cutUntilMs > now) return;
    port.cutUntilMs = now + CUT_MS;
    this.loopsCut += 1;
    this.#onLoop?.(formatMac(frame, Ethernet.SOURCE));
  }
}

class SwitchPort implements NetBackend {
  readonly #switch: EthernetSwitch;
  /** Nothing goes in or out before. */
  cutUntilMs = 0;
  /** Addresses that were learnt here. */
  addresses = 0;
  readonly #out = new FrameQueue();

  constructor(fabric: EthernetSwitch) {
    this.#switch = fabric;
  }

  get mtu(): number {
    return this.#switch.mtu;
  }

  send(frame: readonly Uint8Array[]): boolean {
    this.#switch.take(this, frame);
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean): void {
    this.#out.connect(receive);
  }

  resume(): void {
    this.#out.resume();
  }

  close(): Promise<void> {
    this.#out.close();
    this.#switch.remove(this);
    return Promise.resolve();
  }

  /** Takes a frame that is only lent. False where it is lost. */
  offer(frame: Uint8Array): boolean {
    return this.#out.offer(frame);
  }
}

/** A learning switch: machines of one process, and what `uplink` joins, on one Ethernet. */
export function ethernetSwitch(options: SwitchOptions = {}): EthernetSwitch {
  return new EthernetSwitch(options);
}

/** A switch that does not learn: everyone hears everything. */
export function hub(options: Omit<SwitchOptions, "learns"> = {}): EthernetSwitch {
  return new EthernetSwitch({ ...options, learns: false });
}
