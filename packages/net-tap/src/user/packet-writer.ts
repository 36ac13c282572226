import type { NetOffloads } from "@northbridge/sdk";
import type { ByteRing } from "../tcp/byte-ring.ts";
import type { OutgoingSegment, SynOptions } from "../tcp/contract.ts";
import { TIMESTAMP_BYTES } from "../tcp/timestamps.ts";
import { BROADCAST } from "../wire/address.ts";
import { put16, put32 } from "../wire/bytes.ts";
import { addToSum, checksum, foldSum } from "../wire/checksum.ts";
import { type Ip, isMulticast, writeIpv6 } from "../wire/ip.ts";
import { Extension, Fragment6, Icmp6, Ip6 } from "../wire/spec6.ts";
import { Ethernet, EtherType, Icmp, Ip4, Protocol, Tcp, TcpOption, Udp, VnetHeader } from "../wire/spec.ts";
import type { GuestLink } from "./link.ts";

/** Bodies begin at one place for both families: the shorter header stands further right. */
const BODY_AT = Ethernet.HEADER_LENGTH + Ip6.HEADER_LENGTH;
const V4_AT = BODY_AT - Ip4.HEADER_LENGTH;
const V6_AT = BODY_AT - Ip6.HEADER_LENGTH;
const LONGEST = 65_535;
/** Payload of a large frame: with its headers below 64 KiB, options of TCP included. */
const MOST_LARGE = 65_000;
const broadcastMac = new Uint8Array(6).fill(0xff);

/** Which card has an address; asks the link where nobody knows. */
export interface Resolver {
  macOf(address: Ip): Uint8Array | undefined;
  /** Nobody knows: asks, and sends `frame`, if any, whose destination is missing, when the answer comes. */
  ask(address: Ip, frame: Uint8Array | undefined): void;
}

/** Builds packets of both families to a guest in one reused frame; what is longer than the MTU goes in fragments. */
export class PacketWriter {
  readonly #link: GuestLink;
  readonly #gatewayMac: Uint8Array;
  readonly #resolver: Resolver;
  readonly #mtu: number;
  readonly #frame = new Uint8Array(BODY_AT + LONGEST);
  readonly #piece: Uint8Array;
  readonly #header = new Uint8Array(VnetHeader.LENGTH);
  #identification = 1;
  /** What the guest takes undone. */
  offloads: NetOffloads = { checksum: false, tso4: false, tso6: false, ecn: false, uso: false };

  constructor(link: GuestLink, gatewayMac: Uint8Array, mtu: number, resolver: Resolver) {
    this.#link = link;
    this.#gatewayMac = gatewayMac;
    this.#mtu = mtu;
    this.#resolver = resolver;
    this.#piece = new Uint8Array(Ethernet.HEADER_LENGTH + mtu);
  }

  /** Sends a UDP datagram. One that no packet holds is dropped. `mac` is for guests without an address. */
  udp(from: Ip, fromPort: number, to: Ip, toPort: number, payload: Uint8Array, mac?: Uint8Array): void {
    const length = Udp.HEADER_LENGTH + payload.length;
    if (length > LONGEST - Ip4.HEADER_LENGTH) return;
    const frame = this.#frame;
    put16(frame, BODY_AT + Udp.SOURCE_PORT, fromPort);
    put16(frame, BODY_AT + Udp.DESTINATION_PORT, toPort);
    put16(frame, BODY_AT + Udp.LENGTH, length);
    put16(frame, BODY_AT + Udp.CHECKSUM, 0);
    frame.set(payload, BODY_AT + Udp.HEADER_LENGTH);
    // RFC 768: a computed zero is sent as all ones.
    put16(frame, BODY_AT + Udp.CHECKSUM, this.#sum(from, to, Protocol.UDP, length) || 0xffff);
    this.#send(from, to, Protocol.UDP, length, mac);
  }

  /** Sends an ICMP or ICMPv6 message made of type, code, the four bytes after the checksum, and a body. */
  icmp(from: Ip, to: Ip, type: number, code: number, rest: number, body: Uint8Array, mac?: Uint8Array): void {
    const frame = this.#frame;
    const length = Icmp.HEADER_LENGTH + body.length;
    if (length > LONGEST - Ip4.HEADER_LENGTH) return;
    frame[BODY_AT + Icmp.TYPE] = type;
    frame[BODY_AT + Icmp.CODE] = code;
    put16(frame, BODY_AT + Icmp.CHECKSUM, 0);
    put32(frame, BODY_AT + Icmp.REST, rest);
    frame.set(body, BODY_AT + Icmp.HEADER_LENGTH);
    const protocol = typeof from === "number" ? Protocol.ICMP : Icmp6.PROTOCOL;
    // ICMP for IPv4 has no pseudo-header (RFC 792), ICMPv6 has (RFC 4443 §2.3).
    const sum =
      typeof from === "number"
        ? checksum(frame, BODY_AT, BODY_AT + length)
        : this.#sum(from, to, protocol, length);
    put16(frame, BODY_AT + Icmp.CHECKSUM, sum);
    this.#send(from, to, protocol, length, mac);
  }

  /** Bytes of TCP payload that one call may carry to `to`. */
  mostTcpBytes(to: Ip, mss: number): number {
    const cutsUp =
      this.offloads.checksum && (typeof to === "number" ? this.offloads.tso4 : this.offloads.tso6);
    return cutsUp ? Math.max(mss, MOST_LARGE - (MOST_LARGE % mss)) : mss;
  }

  /**
   * Sends a TCP segment whose payload is taken straight from the connection's ring, or a large one that the guest takes
   * for several of `mss` bytes each.
   */
  tcp(
    from: Ip,
    fromPort: number,
    to: Ip,
    toPort: number,
    segment: OutgoingSegment,
    data: ByteRing,
    offset: number,
    dataLength: number,
    mss: number,
  ): void {
    const frame = this.#frame;
    put16(frame, BODY_AT + Tcp.SOURCE_PORT, fromPort);
    put16(frame, BODY_AT + Tcp.DESTINATION_PORT, toPort);
    put32(frame, BODY_AT + Tcp.SEQUENCE, segment.sequence);
    put32(frame, BODY_AT + Tcp.ACKNOWLEDGMENT, segment.acknowledgment);
    frame[BODY_AT + Tcp.FLAGS] = segment.flags;
    put16(frame, BODY_AT + Tcp.WINDOW, segment.window);
    put32(frame, BODY_AT + Tcp.CHECKSUM, 0);
    let headerLength: number = Tcp.HEADER_LENGTH;
    if (segment.syn !== undefined) headerLength += this.#synOptions(BODY_AT + headerLength, segment.syn);
    if (segment.hasTimestamp) headerLength += this.#timestampOption(BODY_AT + headerLength, segment);
    if (segment.syn === undefined && segment.sack.length > 0)
      headerLength += this.#sackOption(BODY_AT + headerLength, segment.sack);
    frame[BODY_AT + Tcp.DATA_OFFSET] = (headerLength / 4) << 4;
    data.copy(offset, dataLength, frame, BODY_AT + headerLength);
    const length = headerLength + dataLength;
    if (!this.offloads.checksum) {
      put16(frame, BODY_AT + Tcp.CHECKSUM, this.#sum(from, to, Protocol.TCP, length));
      this.#send(from, to, Protocol.TCP, length);
      return;
    }
    // Partial: the sum of the pseudo-header alone, not inverted.
    put16(frame, BODY_AT + Tcp.CHECKSUM, ~this.#pseudoSum(from, to, Protocol.TCP, length) & 0xffff);
    this.#send(from, to, Protocol.TCP, length, undefined, this.#undone(from, headerLength, dataLength, mss));
  }

  #undone(from: Ip, tcpHeader: number, dataLength: number, mss: number): Uint8Array {
    const header = this.#header;
    const ip = typeof from === "number" ? Ip4.HEADER_LENGTH : Ip6.HEADER_LENGTH;
    const start = Ethernet.HEADER_LENGTH + ip;
    const isLarge = dataLength > mss;
    const gso = typeof from === "number" ? VnetHeader.GSO_TCPV4 : VnetHeader.GSO_TCPV6;
    header[VnetHeader.FLAGS] = VnetHeader.NEEDS_CSUM;
    header[VnetHeader.GSO_TYPE] = isLarge ? gso : 0;
    putLittle16(header, VnetHeader.HDR_LEN, isLarge ? start + tcpHeader : 0);
    putLittle16(header, VnetHeader.GSO_SIZE, isLarge ? mss : 0);
    putLittle16(header, VnetHeader.CSUM_START, start);
    putLittle16(header, VnetHeader.CSUM_OFFSET, Tcp.CHECKSUM);
    return header;
  }

  /** Sends an Ethernet frame that is no IP packet. */
  raw(to: Uint8Array, type: number, body: Uint8Array): void {
    const frame = new Uint8Array(Math.max(60, Ethernet.HEADER_LENGTH + body.length));
    frame.set(to, Ethernet.DESTINATION);
    frame.set(this.#gatewayMac, Ethernet.SOURCE);
    put16(frame, Ethernet.TYPE, type);
    frame.set(body, Ethernet.HEADER_LENGTH);
    this.#link.transmit(frame);
  }

  #synOptions(at: number, syn: SynOptions): number {
    const frame = this.#frame;
    let end = at;
    frame[end] = TcpOption.MAXIMUM_SEGMENT_SIZE;
    frame[end + 1] = 4;
    put16(frame, end + 2, syn.mss);
    end += 4;
    if (syn.windowScale >= 0) {
      frame[end] = TcpOption.NO_OPERATION;
      frame[end + 1] = TcpOption.WINDOW_SCALE;
      frame[end + 2] = 3;
      frame[end + 3] = syn.windowScale;
      end += 4;
    }
    if (syn.sackPermitted) {
      frame[end] = TcpOption.NO_OPERATION;
      frame[end + 1] = TcpOption.NO_OPERATION;
      frame[end + 2] = TcpOption.SACK_PERMITTED;
      frame[end + 3] = 2;
      end += 4;
    }
    return end - at;
  }

  #timestampOption(at: number, { timestamp, echo }: OutgoingSegment): number {
    const frame = this.#frame;
    frame[at] = TcpOption.NO_OPERATION;
    frame[at + 1] = TcpOption.NO_OPERATION;
    frame[at + 2] = TcpOption.TIMESTAMPS;
    frame[at + 3] = 10;
    put32(frame, at + 4, timestamp);
    put32(frame, at + 8, echo);
    return TIMESTAMP_BYTES;
  }

  #sackOption(at: number, edges: readonly number[]): number {
    const frame = this.#frame;
    frame[at] = TcpOption.NO_OPERATION;
    frame[at + 1] = TcpOption.NO_OPERATION;
    frame[at + 2] = TcpOption.SACK;
    frame[at + 3] = 2 + edges.length * 4;
    edges.forEach((edge, index) => {
      put32(frame, at + 4 + index * 4, edge);
    });
    return 4 + edges.length * 4;
  }

  /** The checksum of a body and its pseudo-header. */
  #sum(from: Ip, to: Ip, protocol: number, length: number): number {
    const pseudo = this.#addressSum(from, to) + protocol + length;
    return foldSum(addToSum(this.#frame, BODY_AT, BODY_AT + length, pseudo));
  }

  #pseudoSum(from: Ip, to: Ip, protocol: number, length: number): number {
    return foldSum(this.#addressSum(from, to) + protocol + length);
  }

  /** Writes the addresses where they stand in the header, and sums them. */
  #addressSum(from: Ip, to: Ip): number {
    this.#putAddresses(this.#frame, from, to);
    const addresses = typeof from === "number" ? V4_AT + Ip4.SOURCE : V6_AT + Ip6.SOURCE;
    return addToSum(this.#frame, addresses, typeof from === "number" ? addresses + 8 : addresses + 32, 0);
  }

  #putAddresses(frame: Uint8Array, from: Ip, to: Ip): void {
    if (typeof from === "number") {
      put32(frame, V4_AT + Ip4.SOURCE, from);
      put32(frame, V4_AT + Ip4.DESTINATION, typeof to === "number" ? to : 0);
    } else if (typeof to === "string") {
      writeIpv6(frame, V6_AT + Ip6.SOURCE, from);
      writeIpv6(frame, V6_AT + Ip6.DESTINATION, to);
    }
  }

  #send(from: Ip, to: Ip, protocol: number, length: number, mac?: Uint8Array, undone?: Uint8Array): void {
    this.#putAddresses(this.#frame, from, to);
    this.#identification = (this.#identification + 1) & 0xffff;
    if (typeof from === "number") this.#send4(to, protocol, length, mac, undone);
    else this.#send6(to, protocol, length, mac, undone);
  }

  #send4(
    to: Ip,
    protocol: number,
    length: number,
    mac: Uint8Array | undefined,
    undone: Uint8Array | undefined,
  ): void {
    const frame = this.#frame;
    put16(frame, V4_AT - 2, EtherType.IPV4);
    put16(frame, V4_AT + Ip4.VERSION_IHL, 0x4500);
    put16(frame, V4_AT + Ip4.IDENTIFICATION, this.#identification);
    frame[V4_AT + Ip4.TTL] = 64;
    frame[V4_AT + Ip4.PROTOCOL] = protocol;
    const start = V4_AT - Ethernet.HEADER_LENGTH;
    if (undone !== undefined || Ip4.HEADER_LENGTH + length <= this.#mtu) {
      finish4(frame, V4_AT, length, protocol === Protocol.TCP ? Ip4.DONT_FRAGMENT : 0);
      this.#deliver(frame.subarray(start, BODY_AT + length), to, mac, undone);
      return;
    }
    // RFC 791 §2.3: pieces of a multiple of 8 bytes.
    const step = (this.#mtu - Ip4.HEADER_LENGTH) & ~7;
    const piece = this.#piece;
    const bodyAt = Ethernet.HEADER_LENGTH + Ip4.HEADER_LENGTH;
    piece.set(frame.subarray(start, BODY_AT));
    for (let done = 0; done < length; done += step) {
      const size = Math.min(step, length - done);
      piece.set(frame.subarray(BODY_AT + done, BODY_AT + done + size), bodyAt);
      const more = done + size < length ? Ip4.MORE_FRAGMENTS : 0;
      finish4(piece, Ethernet.HEADER_LENGTH, size, (done >>> 3) | more);
      this.#deliver(piece.subarray(0, bodyAt + size), to, mac);
    }
  }

  #send6(
    to: Ip,
    protocol: number,
    length: number,
    mac: Uint8Array | undefined,
    undone: Uint8Array | undefined,
  ): void {
    const frame = this.#frame;
    put16(frame, V6_AT - 2, EtherType.IPV6);
    put32(frame, V6_AT + Ip6.VERSION, 0x6000_0000);
    put16(frame, V6_AT + Ip6.PAYLOAD_LENGTH, length);
    frame[V6_AT + Ip6.NEXT_HEADER] = protocol;
    // Neighbour discovery is believed only with 255, which no router forwards (RFC 4861 §7.1).
    frame[V6_AT + Ip6.HOP_LIMIT] = protocol === Icmp6.PROTOCOL ? 255 : 64;
    if (undone !== undefined || Ip6.HEADER_LENGTH + length <= this.#mtu) {
      this.#deliver(frame.subarray(0, BODY_AT + length), to, mac, undone);
      return;
    }
    const piece = this.#piece;
    const extension = BODY_AT;
    const step = (this.#mtu - Ip6.HEADER_LENGTH - Fragment6.LENGTH) & ~7;
    piece.set(frame.subarray(0, BODY_AT));
    piece[V6_AT + Ip6.NEXT_HEADER] = Extension.FRAGMENT;
    put16(piece, extension, protocol << 8);
    put32(piece, extension + Fragment6.IDENTIFICATION, this.#identification);
    for (let done = 0; done < length; done += step) {
      const size = Math.min(step, length - done);
      put16(piece, extension + Fragment6.OFFSET, done | (done + size < length ? Fragment6.MORE : 0));
      put16(piece, V6_AT + Ip6.PAYLOAD_LENGTH, Fragment6.LENGTH + size);
      piece.set(frame.subarray(BODY_AT + done, BODY_AT + done + size), extension + Fragment6.LENGTH);
      this.#deliver(piece.subarray(0, extension + Fragment6.LENGTH + size), to, mac);
    }
  }

  #deliver(frame: Uint8Array, to: Ip, mac: Uint8Array | undefined, undone?: Uint8Array): void {
    frame.set(this.#gatewayMac, Ethernet.SOURCE);
    const known = mac ?? multicastMac(to) ?? this.#resolver.macOf(to);
    if (known === undefined) {
      // What is undone does not wait: TCP sends it again.
      if (undone === undefined) this.#resolver.ask(to, frame);
      else this.#resolver.ask(to, undefined);
      return;
    }
    frame.set(known, Ethernet.DESTINATION);
    this.#link.transmit(frame, undone);
  }
}

function putLittle16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

function finish4(frame: Uint8Array, at: number, length: number, fragment: number): void {
  put16(frame, at + Ip4.TOTAL_LENGTH, Ip4.HEADER_LENGTH + length);
  put16(frame, at + Ip4.FRAGMENT, fragment);
  put16(frame, at + Ip4.CHECKSUM, 0);
  put16(frame, at + Ip4.CHECKSUM, checksum(frame, at, at + Ip4.HEADER_LENGTH));
}

/** RFC 2464 §7 for IPv6; the broadcast address for IPv4's. */
function multicastMac(to: Ip): Uint8Array | undefined {
  if (to === BROADCAST) return broadcastMac;
  if (typeof to === "number" || !isMulticast(to)) return undefined;
  return Uint8Array.from([0x33, 0x33, ...Array.from({ length: 4 }, (_, index) => to.charCodeAt(12 + index))]);
}
