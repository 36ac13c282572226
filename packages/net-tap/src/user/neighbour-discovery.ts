import { randomInt } from "node:crypto";
import { Alarm } from "../scheduler.ts";
import { macKey } from "../wire/address.ts";
import { get16, put32 } from "../wire/bytes.ts";
import { ALL_NODES, type Ip, type Ipv6, readIpv6, UNSPECIFIED6, writeIpv6 } from "../wire/ip.ts";
import { Icmp6, NdOption } from "../wire/spec6.ts";
import { Ethernet, Icmp } from "../wire/spec.ts";
import type { Claims } from "./claims.ts";
import type { Ipv6Network, UserNetwork } from "./options.ts";
import type { Packet } from "./packet.ts";
import type { PacketWriter } from "./packet-writer.ts";

/** Lifetimes that a router of one's own gives (RFC 4861 §6.2.1), in seconds. */
const ROUTER_LIFETIME = 1800;
const PREFIX_LIFETIME = 86_400;
/** Unasked advertisements: the first soon, for a guest that was restored; then well within the lifetimes (§6.2.1, §6.2.4). */
const ADVERTISE_MS = { FIRST: 16_000, LEAST: 200_000, MOST: 600_000 } as const;

/** Flags of a neighbour advertisement (RFC 4861 §4.4). */
const FROM_ROUTER = 0x8000_0000;
const SOLICITED = 0x4000_0000;
const OVERRIDE = 0x2000_0000;
/** Flags of a router advertisement: other configuration by DHCPv6 (§4.2). */
const OTHER_CONFIGURATION = 0x40;
/** Flags of a prefix: on the link, and for addresses that guests make themselves (§4.6.2, RFC 4862). */
const ON_LINK_AUTONOMOUS = 0xc0;

/** The router's part of IPv6 neighbour discovery (RFC 4861): advertisements, and answers for our addresses. */
export class NeighbourDiscovery {
  readonly #network: UserNetwork;
  readonly #v6: Ipv6Network;
  readonly #claims: Claims;
  readonly #writer: PacketWriter;
  readonly #next: Alarm;

  constructor(network: UserNetwork, v6: Ipv6Network, claims: Claims, writer: PacketWriter) {
    this.#network = network;
    this.#v6 = v6;
    this.#claims = claims;
    this.#writer = writer;
    this.#next = new Alarm(network.scheduler, () => {
      this.#advertise(ALL_NODES);
      this.#next.arm(randomInt(ADVERTISE_MS.LEAST, ADVERTISE_MS.MOST));
    });
  }

  /** A guest is there: it is advertised to, asked or not, until `close`. */
  start(): void {
    this.#next.arm(ADVERTISE_MS.FIRST);
  }

  close(): void {
    this.#next.close();
  }

  /** Handles a message whose checksum is right; `mac` is its card. False where it is forged or malformed (§7.1, §6.1). */
  take(packet: Packet, mac: Uint8Array): boolean {
    const { bytes, body, end } = packet;
    const type = bytes[body];
    if (packet.hopLimit !== 255 || bytes[body + Icmp.CODE] !== 0 || !hasSaneOptions(packet)) return false;
    switch (type) {
      case Icmp6.ROUTER_SOLICITATION:
        this.#advertise(packet.source === UNSPECIFIED6 ? ALL_NODES : packet.source, mac);
        return true;
      case Icmp6.NEIGHBOUR_SOLICITATION:
        return end - body >= 24 && this.#takeSolicitation(packet, readIpv6(bytes, body + 8), mac);
      case Icmp6.NEIGHBOUR_ADVERTISEMENT:
        // Who says where an address lives must have it.
        return end - body >= 24 && this.#claims.claim(readIpv6(bytes, body + 8), mac, 0);
      default:
        // Only a router advertises or redirects, and that is us.
        return false;
    }
  }

  /** Asks who has `address` (§7.2.2). */
  ask(address: Ipv6): void {
    const group = `\xff\x02${"\0".repeat(9)}\x01\xff${address.slice(13)}`;
    const message = new Uint8Array(24);
    writeIpv6(message, 0, address);
    message[16] = NdOption.SOURCE_LINK_LAYER;
    message[17] = 1;
    message.set(this.#network.gatewayMac, 18);
    this.#writer.icmp(this.#v6.router, group, Icmp6.NEIGHBOUR_SOLICITATION, 0, 0, message);
  }

  /** Advertises us as the router (§4.2), with the prefix, the MTU and the name server (RFC 8106 §5.1). */
  #advertise(to: Ip, mac?: Uint8Array): void {
    const message = new Uint8Array(8 + 8 + 8 + 32 + 24);
    put32(message, 0, 0);
    put32(message, 4, 0);
    let at = 8;
    message[at] = NdOption.SOURCE_LINK_LAYER;
    message[at + 1] = 1;
    message.set(this.#network.gatewayMac, at + 2);
    at += 8;
    message[at] = NdOption.MTU;
    message[at + 1] = 1;
    put32(message, at + 4, this.#network.mtu);
    at += 8;
    message[at] = NdOption.PREFIX_INFORMATION;
    message[at + 1] = 4;
    message[at + 2] = this.#v6.prefix.prefix;
    message[at + 3] = ON_LINK_AUTONOMOUS;
    put32(message, at + 4, PREFIX_LIFETIME);
    put32(message, at + 8, PREFIX_LIFETIME);
    writeIpv6(message, at + 16, this.#v6.prefix.network);
    at += 32;
    message[at] = NdOption.RECURSIVE_DNS_SERVER;
    message[at + 1] = 3;
    put32(message, at + 4, ROUTER_LIFETIME);
    writeIpv6(message, at + 8, this.#v6.dns);
    const rest = ((64 << 24) | (OTHER_CONFIGURATION << 16) | ROUTER_LIFETIME) >>> 0;
    this.#writer.icmp(this.#v6.router, to, Icmp6.ROUTER_ADVERTISEMENT, 0, rest, message, mac);
  }

  #takeSolicitation(packet: Packet, target: Ipv6, mac: Uint8Array): boolean {
    const isOurs = target === this.#v6.router || target === this.#v6.gateway || target === this.#v6.dns;
    const { source } = packet;
    if (!isOurs) return true;
    const message = new Uint8Array(24);
    writeIpv6(message, 0, target);
    message[16] = NdOption.TARGET_LINK_LAYER;
    message[17] = 1;
    message.set(this.#network.gatewayMac, 18);
    // A guest that tries an address of ours for itself hears that it is taken (RFC 4862 §5.4.4).
    const isTrying = source === UNSPECIFIED6;
    const flags = (FROM_ROUTER | OVERRIDE | (isTrying ? 0 : SOLICITED)) >>> 0;
    const to = isTrying ? ALL_NODES : source;
    this.#writer.icmp(
      target,
      to,
      Icmp6.NEIGHBOUR_ADVERTISEMENT,
      0,
      flags,
      message,
      isTrying ? undefined : mac,
    );
    return true;
  }
}

/** Options have lengths that lead to the end, none is zero, and link-layer addresses are those of the card (§4.6). */
function hasSaneOptions(packet: Packet): boolean {
  const { bytes, body, end, header } = packet;
  const type = bytes[body];
  let at = body + (type === Icmp6.ROUTER_SOLICITATION ? 8 : 24);
  const card = header - Ethernet.HEADER_LENGTH + Ethernet.SOURCE;
  while (at < end) {
    const length = (bytes[at + 1] ?? 0) * 8;
    if (length === 0 || at + length > end) return false;
    const isLinkLayer = get16(bytes, at) === ((NdOption.SOURCE_LINK_LAYER << 8) | 1);
    if (isLinkLayer && card >= 0 && macKey(bytes, at + 2) !== macKey(bytes, card)) return false;
    at += length;
  }
  return true;
}
