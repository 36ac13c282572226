import { completeChecksum, fold, foldTransport, read16, sum, write16 } from "./checksum.ts";
import type { OffloadHeader } from "./offload-header.ts";
import {
  EtherType,
  Ethernet,
  Gso,
  Ipv4,
  Ipv6,
  MAX_FRAME,
  MAX_PIECES,
  Protocol,
  Tcp,
  TcpFlag,
  Udp,
} from "./spec.ts";

const MAX_HEADERS = 512;

/**
 * Does the work that a driver left undone, for links that do not: completes checksums and cuts large frames of TCP and
 * UDP into pieces that are valid frames by themselves. Holds one frame at a time, in a buffer of its own.
 */
export class Segmenter {
  /** Where the frame is put, before `begin`. */
  readonly frame: Uint8Array = new Uint8Array(MAX_FRAME);
  /** Pieces of the frame. */
  count = 0;
  readonly #headers: Uint8Array = new Uint8Array(MAX_HEADERS);
  readonly #parts: Uint8Array[] = [];
  #length = 0;
  #l3 = 0;
  #l4 = 0;
  /** Bytes of all headers. */
  #headerLength = 0;
  #size = 0;
  #isTcp = false;
  #isIpv4 = false;

  /** Takes the frame of `length` bytes that is in `frame`. False where the headers are not what `undone` says. */
  begin(length: number, undone: OffloadHeader): boolean {
    this.#length = length;
    this.count = 1;
    if (!undone.isLarge) {
      this.#headerLength = 0;
      if (undone.needsChecksum) completeChecksum(this.frame, length, undone.start, undone.offset);
      return true;
    }
    const transport = undone.gso & ~Gso.ECN;
    this.#isTcp = transport !== Gso.UDP_L4;
    this.#l4 = undone.start;
    this.#size = undone.gsoSize;
    if (!this.#parseNetwork(transport) || !this.#parseTransport(undone.offset)) return false;
    this.count = Math.ceil((length - this.#headerLength) / this.#size);
    return this.#headerLength <= MAX_HEADERS && this.count >= 1 && this.count <= MAX_PIECES;
  }

  /** The parts of piece `index`, until the next call. */
  piece(index: number): readonly Uint8Array[] {
    const parts = this.#parts;
    if (this.#headerLength === 0) {
      parts.length = 1;
      parts[0] = this.frame.subarray(0, this.#length);
      return parts;
    }
    const from = this.#headerLength + index * this.#size;
    const to = Math.min(from + this.#size, this.#length);
    parts.length = 2;
    parts[0] = this.#headersOf(index, to - from);
    parts[1] = this.frame.subarray(from, to);
    this.#checksum(parts[0], from, to);
    return parts;
  }

  #parseNetwork(transport: number): boolean {
    const { frame } = this;
    let l3: number = Ethernet.HEADER;
    let type = read16(frame, Ethernet.TYPE);
    while ((type === EtherType.VLAN || type === EtherType.SERVICE_VLAN) && l3 + Ipv4.HEADER < this.#length) {
      l3 += Ethernet.TAG;
      type = read16(frame, l3 - 2);
    }
    this.#l3 = l3;
    this.#isIpv4 = type === EtherType.IPV4;
    if (this.#isIpv4 ? transport === Gso.TCPV6 : type !== EtherType.IPV6 || transport === Gso.TCPV4)
      return false;
    if (!this.#isIpv4) return this.#l4 >= l3 + Ipv6.HEADER; // extension headers may lie between
    const protocol = this.#isTcp ? Protocol.TCP : Protocol.UDP;
    return this.#l4 === l3 + 4 * ((frame[l3] ?? 0) & 0x0f) && frame[l3 + Ipv4.PROTOCOL] === protocol;
  }

  #parseTransport(offset: number): boolean {
    if (offset !== (this.#isTcp ? Tcp.CHECKSUM : Udp.CHECKSUM)) return false;
    const length = this.#isTcp ? 4 * ((this.frame[this.#l4 + Tcp.DATA_OFFSET] ?? 0) >>> 4) : Udp.HEADER;
    this.#headerLength = this.#l4 + length;
    return length >= (this.#isTcp ? Tcp.HEADER : Udp.HEADER) && this.#headerLength < this.#length;
  }

  /** Headers of a piece with `payload` bytes; the transport's checksum is zero. */
  #headersOf(index: number, payload: number): Uint8Array {
    const l3 = this.#l3;
    const l4 = this.#l4;
    const headers = this.#headers.subarray(0, this.#headerLength);
    headers.set(this.frame.subarray(0, this.#headerLength));
    const total = this.#headerLength - l3 + payload;
    if (this.#isIpv4) {
      write16(headers, l3 + Ipv4.LENGTH, total);
      write16(headers, l3 + Ipv4.ID, (read16(headers, l3 + Ipv4.ID) + index) & 0xffff);
      write16(headers, l3 + Ipv4.CHECKSUM, 0);
      write16(headers, l3 + Ipv4.CHECKSUM, fold(sum(headers, l3, l4)));
    } else {
      write16(headers, l3 + Ipv6.LENGTH, total - Ipv6.HEADER);
    }
    if (this.#isTcp) {
      const sequence = read16(headers, l4 + Tcp.SEQUENCE) * 0x1_0000 + read16(headers, l4 + Tcp.SEQUENCE + 2);
      const next = (sequence + index * this.#size) >>> 0;
      write16(headers, l4 + Tcp.SEQUENCE, next >>> 16);
      write16(headers, l4 + Tcp.SEQUENCE + 2, next & 0xffff);
      const isLast = index === this.count - 1;
      // FIN and PSH end the whole; CWR is said once (RFC 3168 §6.1.2).
      const dropped = (isLast ? 0 : TcpFlag.FIN | TcpFlag.PSH) | (index === 0 ? 0 : TcpFlag.CWR);
      headers[l4 + Tcp.FLAGS] = (headers[l4 + Tcp.FLAGS] ?? 0) & ~dropped;
      write16(headers, l4 + Tcp.CHECKSUM, 0);
    } else {
      write16(headers, l4 + Udp.LENGTH, Udp.HEADER + payload);
      write16(headers, l4 + Udp.CHECKSUM, 0);
    }
    return headers;
  }

  #checksum(headers: Uint8Array, from: number, to: number): void {
    const l3 = this.#l3;
    const l4 = this.#l4;
    const [at, length] = this.#isIpv4 ? [l3 + Ipv4.ADDRESSES, 8] : [l3 + Ipv6.ADDRESSES, 32];
    let total = sum(headers, at, at + length); // the pseudo-header
    total += this.#isTcp ? Protocol.TCP : Protocol.UDP;
    total += headers.length - l4 + to - from;
    total = sum(headers, l4, headers.length, total); // of even length
    total = sum(this.frame, from, to, total);
    write16(headers, l4 + (this.#isTcp ? Tcp.CHECKSUM : Udp.CHECKSUM), foldTransport(total));
  }
}
