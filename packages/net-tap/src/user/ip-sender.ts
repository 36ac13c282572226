import type { ByteRing } from "../tcp/byte-ring.ts";
import type { OutgoingSegment, SynOptions } from "../tcp/contract.ts";
import type { Ipv4 } from "../wire/address.ts";
import { put16, put32 } from "../wire/bytes.ts";
import { addToSum, checksum, foldSum, pseudoHeaderSum } from "../wire/checksum.ts";
import { Ethernet, EtherType, Icmp, Ip4, Protocol, Tcp, TcpOption, Udp } from "../wire/spec.ts";
import type { GuestLink } from "./link.ts";

const IP_AT = Ethernet.HEADER_LENGTH;
const BODY_AT = IP_AT + Ip4.HEADER_LENGTH;

/** Builds IPv4 packets to a guest in one reused frame and sends them; what is longer than the MTU in fragments. */
export class IpSender {
  readonly #link: GuestLink;
  readonly #gatewayMac: Uint8Array;
  readonly #macOf: (address: Ipv4) => Uint8Array | undefined;
  readonly #mtu: number;
  readonly #frame = new Uint8Array(Ethernet.HEADER_LENGTH + 65_535);
  readonly #piece: Uint8Array;
  #identification = 1;

  constructor(
    link: GuestLink,
    gatewayMac: Uint8Array,
    mtu: number,
    macOf: (address: Ipv4) => Uint8Array | undefined,
  ) {
    this.#link = link;
    this.#gatewayMac = gatewayMac;
    this.#mtu = mtu;
    this.#macOf = macOf;
    this.#piece = new Uint8Array(Ethernet.HEADER_LENGTH + mtu);
  }

  /** Sends a UDP datagram. One that no IPv4 packet holds is dropped. `mac` is for guests without an address. */
  udp(from: Ipv4, fromPort: number, to: Ipv4, toPort: number, payload: Uint8Array, mac?: Uint8Array): void {
    const length = Udp.HEADER_LENGTH + payload.length;
    if (length > 65_535 - Ip4.HEADER_LENGTH) return;
    const frame = this.#frame;
    put16(frame, BODY_AT + Udp.SOURCE_PORT, fromPort);
    put16(frame, BODY_AT + Udp.DESTINATION_PORT, toPort);
    put16(frame, BODY_AT + Udp.LENGTH, length);
    put16(frame, BODY_AT + Udp.CHECKSUM, 0);
    frame.set(payload, BODY_AT + Udp.HEADER_LENGTH);
    const sum = addToSum(frame, BODY_AT, BODY_AT + length, pseudoHeaderSum(from, to, Protocol.UDP, length));
    // RFC 768: a computed zero is sent as all ones.
    put16(frame, BODY_AT + Udp.CHECKSUM, foldSum(sum) || 0xffff);
    this.#send(from, to, Protocol.UDP, length, mac);
  }

  /** Sends an ICMP message made of type, code, the four bytes after the checksum, and a body. */
  icmp(from: Ipv4, to: Ipv4, type: number, code: number, rest: number, body: Uint8Array): void {
    const frame = this.#frame;
    const length = Icmp.HEADER_LENGTH + body.length;
    if (length > 65_535 - Ip4.HEADER_LENGTH) return;
    frame[BODY_AT + Icmp.TYPE] = type;
    frame[BODY_AT + Icmp.CODE] = code;
    put16(frame, BODY_AT + Icmp.CHECKSUM, 0);
    put32(frame, BODY_AT + Icmp.REST, rest);
    frame.set(body, BODY_AT + Icmp.HEADER_LENGTH);
    put16(frame, BODY_AT + Icmp.CHECKSUM, checksum(frame, BODY_AT, BODY_AT + length));
    this.#send(from, to, Protocol.ICMP, length);
  }

  /** Sends a TCP segment whose payload is taken straight from the connection's ring. */
  tcp(
    from: Ipv4,
    fromPort: number,
    to: Ipv4,
    toPort: number,
    segment: OutgoingSegment,
    data: ByteRing,
    offset: number,
    dataLength: number,
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
    else if (segment.sack.length > 0) headerLength += this.#sackOption(BODY_AT + headerLength, segment.sack);
    frame[BODY_AT + Tcp.DATA_OFFSET] = (headerLength / 4) << 4;
    data.copy(offset, dataLength, frame, BODY_AT + headerLength);
    const length = headerLength + dataLength;
    const sum = addToSum(frame, BODY_AT, BODY_AT + length, pseudoHeaderSum(from, to, Protocol.TCP, length));
    put16(frame, BODY_AT + Tcp.CHECKSUM, foldSum(sum));
    this.#send(from, to, Protocol.TCP, length);
  }

  /** Sends an Ethernet frame that is not IPv4. */
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

  #send(from: Ipv4, to: Ipv4, protocol: number, length: number, mac?: Uint8Array): void {
    const destination = mac ?? this.#macOf(to);
    if (destination === undefined) return;
    const frame = this.#frame;
    frame.set(destination, Ethernet.DESTINATION);
    frame.set(this.#gatewayMac, Ethernet.SOURCE);
    put16(frame, Ethernet.TYPE, EtherType.IPV4);
    put16(frame, IP_AT + Ip4.VERSION_IHL, 0x4500);
    this.#identification = (this.#identification + 1) & 0xffff;
    put16(frame, IP_AT + Ip4.IDENTIFICATION, this.#identification);
    frame[IP_AT + Ip4.TTL] = 64;
    frame[IP_AT + Ip4.PROTOCOL] = protocol;
    put32(frame, IP_AT + Ip4.SOURCE, from);
    put32(frame, IP_AT + Ip4.DESTINATION, to);
    if (Ip4.HEADER_LENGTH + length <= this.#mtu) {
      this.#finish(frame, length, protocol === Protocol.TCP ? Ip4.DONT_FRAGMENT : 0);
      return;
    }
    // RFC 791 §2.3: pieces of a multiple of 8 bytes.
    const step = (this.#mtu - Ip4.HEADER_LENGTH) & ~7;
    const piece = this.#piece;
    piece.set(frame.subarray(0, BODY_AT));
    for (let done = 0; done < length; done += step) {
      const size = Math.min(step, length - done);
      piece.set(frame.subarray(BODY_AT + done, BODY_AT + done + size), BODY_AT);
      this.#finish(piece, size, (done >>> 3) | (done + size < length ? Ip4.MORE_FRAGMENTS : 0));
    }
  }

  #finish(frame: Uint8Array, length: number, fragment: number): void {
    put16(frame, IP_AT + Ip4.TOTAL_LENGTH, Ip4.HEADER_LENGTH + length);
    put16(frame, IP_AT + Ip4.FRAGMENT, fragment);
    put16(frame, IP_AT + Ip4.CHECKSUM, 0);
    put16(frame, IP_AT + Ip4.CHECKSUM, checksum(frame, IP_AT, BODY_AT));
    this.#link.transmit(frame.subarray(0, BODY_AT + length));
  }
}
