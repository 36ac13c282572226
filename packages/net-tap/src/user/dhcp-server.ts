import { type Ipv4, macKey } from "../wire/address.ts";
import { get32, put16, put32 } from "../wire/bytes.ts";
import { Dhcp, DhcpMessage, DhcpOption } from "../wire/spec.ts";
import { BINDING_MS, type Neighbours } from "./neighbours.ts";
import type { UserNetwork } from "./options.ts";

/** How long an address is given to nobody that a guest has found in use, and how many. */
const DECLINED_MS = 600_000;
const MOST_DECLINED = 16;

/** What the server says: a BOOTP reply and where it goes. */
export interface DhcpReply {
  readonly message: Uint8Array;
  readonly to: Ipv4;
}

/**
 * DHCP server (RFC 2131, RFC 2132) of one link: an address for each card, bound in `Neighbours` so that nobody else can
 * use it. No relays: a request speaks for the card whose frame it came in, or is dropped. When all addresses are out,
 * nothing is offered and those who have one keep it.
 */
export class DhcpServer {
  readonly #network: UserNetwork;
  readonly #neighbours: Neighbours;
  readonly #leases = new Map<number, Ipv4>();
  /** Address → until when. */
  readonly #declined = new Map<Ipv4, number>();

  constructor(network: UserNetwork, neighbours: Neighbours) {
    this.#network = network;
    this.#neighbours = neighbours;
  }

  /** Answers one message; `source` is the Ethernet source of its frame. */
  answer(message: Uint8Array, source: Uint8Array): DhcpReply | undefined {
    if (
      message.length < Dhcp.OPTIONS ||
      message[Dhcp.OP] !== Dhcp.BOOTREQUEST ||
      message[Dhcp.HTYPE] !== 1 ||
      message[Dhcp.HLEN] !== 6 ||
      get32(message, Dhcp.COOKIE) !== Dhcp.MAGIC ||
      get32(message, Dhcp.GIADDR) !== 0 ||
      macKey(message, Dhcp.CHADDR) !== macKey(source, 0)
    ) {
      return undefined;
    }
    const client = get32(message, Dhcp.CIADDR);
    const server = optionAddress(message, DhcpOption.SERVER_IDENTIFIER);
    const forUs = server === undefined || server === this.#network.gateway;
    switch (findOption(message, DhcpOption.MESSAGE_TYPE)?.[0]) {
      case DhcpMessage.DISCOVER: {
        const address = this.#addressFor(source, optionAddress(message, DhcpOption.REQUESTED_ADDRESS));
        return address === undefined ? undefined : this.#reply(message, DhcpMessage.OFFER, address);
      }
      case DhcpMessage.REQUEST: {
        if (!forUs) return undefined;
        const wanted = optionAddress(message, DhcpOption.REQUESTED_ADDRESS) ?? client;
        const address = this.#addressFor(source, wanted);
        if (address === undefined || address !== wanted || !this.#neighbours.claim(address, source, 0)) {
          return this.#reply(message, DhcpMessage.NAK, 0);
        }
        this.#leases.set(macKey(source, 0), address);
        return this.#reply(message, DhcpMessage.ACK, address);
      }
      case DhcpMessage.RELEASE: {
        this.#giveBack(source, client);
        return undefined;
      }
      case DhcpMessage.DECLINE: {
        // RFC 2131 §4.3.3: somebody silent has it.
        const declined = optionAddress(message, DhcpOption.REQUESTED_ADDRESS);
        if (declined === undefined || !this.#giveBack(source, declined)) return undefined;
        const [oldest] = this.#declined.keys();
        if (oldest !== undefined && this.#declined.size >= MOST_DECLINED) this.#declined.delete(oldest);
        this.#declined.set(declined, this.#network.scheduler.nowMs() + DECLINED_MS);
        return undefined;
      }
      case DhcpMessage.INFORM:
        return client === 0 ? undefined : this.#reply(message, DhcpMessage.ACK, 0);
      default:
        return undefined;
    }
  }

  #addressFor(source: Uint8Array, wanted: Ipv4 | undefined): Ipv4 | undefined {
    const key = macKey(source, 0);
    const fixed = this.#network.leases.get(key);
    if (fixed !== undefined) return fixed;
    const leased = this.#leases.get(key);
    if (leased !== undefined && this.#neighbours.isFreeFor(leased, source, 0)) return leased;
    const now = this.#network.scheduler.nowMs();
    const free = (address: Ipv4): boolean =>
      (this.#declined.get(address) ?? 0) <= now && this.#neighbours.isFreeFor(address, source, 0);
    const { firstLease, lastLease } = this.#network;
    if (wanted !== undefined && wanted >= firstLease && wanted <= lastLease && free(wanted)) return wanted;
    let used: Ipv4 | undefined;
    for (let address = firstLease; address <= lastLease; address += 1) {
      if (!free(address)) continue;
      // RFC 2131 §4.3.1: a guest that was paused for long finds its address again, as long as there are others.
      if (this.#neighbours.isFresh(address)) return address;
      used ??= address;
    }
    return used;
  }

  /** Ends the lease of a card. False where it has none of `address`. */
  #giveBack(source: Uint8Array, address: Ipv4): boolean {
    const key = macKey(source, 0);
    if (this.#leases.get(key) !== address) return false;
    this.#leases.delete(key);
    this.#neighbours.release(address, source, 0);
    return true;
  }

  #reply(request: Uint8Array, type: number, address: Ipv4): DhcpReply {
    const network = this.#network;
    const message = new Uint8Array(1024);
    message[Dhcp.OP] = Dhcp.BOOTREPLY;
    message[Dhcp.HTYPE] = 1;
    message[Dhcp.HLEN] = 6;
    message.set(request.subarray(Dhcp.XID, Dhcp.XID + 4), Dhcp.XID);
    message.set(request.subarray(Dhcp.FLAGS, Dhcp.FLAGS + 2), Dhcp.FLAGS);
    message.set(request.subarray(Dhcp.CHADDR, Dhcp.CHADDR + 16), Dhcp.CHADDR);
    put32(message, Dhcp.YIADDR, address);
    put32(message, Dhcp.COOKIE, Dhcp.MAGIC);
    let at: number = Dhcp.OPTIONS;
    const option = (code: number, value: Uint8Array): void => {
      message[at] = code;
      message[at + 1] = value.length;
      message.set(value, at + 2);
      at += 2 + value.length;
    };
    option(DhcpOption.MESSAGE_TYPE, Uint8Array.of(type));
    option(DhcpOption.SERVER_IDENTIFIER, addressBytes(network.gateway));
    if (type !== DhcpMessage.NAK) {
      // RFC 2131 §4.3.5: an answer to INFORM has neither an address nor a lease.
      if (address !== 0) option(DhcpOption.LEASE_TIME, addressBytes(BINDING_MS / 1000));
      option(DhcpOption.SUBNET_MASK, addressBytes(network.subnet.mask));
      option(DhcpOption.ROUTER, addressBytes(network.gateway));
      option(DhcpOption.DNS, addressBytes(network.dns));
      const mtu = new Uint8Array(2);
      put16(mtu, 0, network.mtu);
      option(DhcpOption.INTERFACE_MTU, mtu);
      if (network.hostname !== "") option(DhcpOption.HOST_NAME, new TextEncoder().encode(network.hostname));
      if (network.domain !== "") option(DhcpOption.DOMAIN_NAME, new TextEncoder().encode(network.domain));
    }
    message[at] = DhcpOption.END;
    const client = get32(request, Dhcp.CIADDR);
    // RFC 2131 §4.1: to the client's own address where it has one; else to all, which its card takes either way.
    const to = type !== DhcpMessage.NAK && client !== 0 ? client : 0xffff_ffff;
    return { message: message.subarray(0, Math.max(Dhcp.SMALLEST, at + 1)), to };
  }
}

function addressBytes(address: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4);
  put32(bytes, 0, address);
  return bytes;
}

function optionAddress(message: Uint8Array, wanted: number): Ipv4 | undefined {
  const option = findOption(message, wanted);
  return option?.length === 4 ? get32(option, 0) : undefined;
}

/** The value of an option, or `undefined`. Option overload (RFC 2132 §9.3) is for replies and is not looked at. */
function findOption(message: Uint8Array, wanted: number): Uint8Array | undefined {
  let at: number = Dhcp.OPTIONS;
  while (at < message.length) {
    const code = message[at];
    if (code === DhcpOption.END) return undefined;
    if (code === DhcpOption.PAD) {
      at += 1;
      continue;
    }
    const length = message[at + 1] ?? 0;
    if (at + 2 + length > message.length) return undefined;
    if (code === wanted) return message.subarray(at + 2, at + 2 + length);
    at += 2 + length;
  }
  return undefined;
}
