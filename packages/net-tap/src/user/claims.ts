import { contains } from "../wire/address.ts";
import { contains6, type Ip, isLinkLocal6, UNSPECIFIED6 } from "../wire/ip.ts";
import { Ethernet } from "../wire/spec.ts";
import type { GuestLink } from "./link.ts";
import type { Neighbours } from "./neighbours.ts";
import type { UserNetwork } from "./options.ts";

const MOST_WAITING = 64;
/** RFC 4861 §10 RETRANS_TIMER, RFC 1122 §2.3.2.1. */
const ASK_AGAIN_MS = 1000;

interface Waiting {
  frame: Uint8Array | undefined;
  askedMs: number;
}

/** Which addresses guests may have, and which card has which: learnt from what cards send, asked for where need be. */
export class Claims {
  readonly #network: UserNetwork;
  readonly #neighbours: Neighbours;
  readonly #link: GuestLink;
  readonly #ask: (address: Ip) => void;
  /** The last frame for each address that nobody has answered for (RFC 1122 §2.3.2.2). */
  readonly #waiting = new Map<Ip, Waiting>();

  constructor(network: UserNetwork, neighbours: Neighbours, link: GuestLink, ask: (address: Ip) => void) {
    this.#network = network;
    this.#neighbours = neighbours;
    this.#link = link;
    this.#ask = ask;
  }

  /** Whether `address` is one that a guest may have, and the card at `bytes[at…]` the one that has it. */
  claim(address: Ip, bytes: Uint8Array, at: number): boolean {
    if (!this.#isForGuests(address) || !this.#neighbours.claim(address, bytes, at)) return false;
    const waiting = this.#waiting.get(address);
    if (waiting !== undefined) {
      this.#waiting.delete(address);
      if (waiting.frame !== undefined) {
        waiting.frame.set(bytes.subarray(at, at + 6), Ethernet.DESTINATION);
        this.#link.transmit(waiting.frame);
      }
    }
    return true;
  }

  macOf(address: Ip): Uint8Array | undefined {
    return this.#neighbours.macOf(address);
  }

  ask(address: Ip, frame: Uint8Array | undefined): void {
    if (!this.#isForGuests(address)) return;
    const now = this.#network.scheduler.nowMs();
    const known = this.#waiting.get(address);
    if (known !== undefined && now - known.askedMs < ASK_AGAIN_MS) {
      known.frame = frame?.slice() ?? known.frame;
      return;
    }
    if (known === undefined && this.#waiting.size >= MOST_WAITING) {
      for (const [old, { askedMs }] of this.#waiting)
        if (now - askedMs >= ASK_AGAIN_MS) this.#waiting.delete(old);
      if (this.#waiting.size >= MOST_WAITING) return;
    }
    // A copy before the question, which is written over the same bytes.
    this.#waiting.set(address, { frame: frame?.slice(), askedMs: now });
    this.#ask(address);
  }

  #isForGuests(address: Ip): boolean {
    const { subnet, gateway, dns, v6 } = this.#network;
    if (typeof address === "number") {
      const last = (subnet.network | ~subnet.mask) >>> 0;
      const isReserved =
        address === subnet.network || address === last || address === gateway || address === dns;
      return contains(subnet, address) && !isReserved;
    }
    if (v6 === undefined || address === UNSPECIFIED6) return false;
    if (address === v6.gateway || address === v6.dns || address === v6.router) return false;
    return isLinkLocal6(address) || contains6(v6.prefix, address);
  }
}
