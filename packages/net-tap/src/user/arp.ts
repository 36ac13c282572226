import { macKey } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { Arp, Ethernet, EtherType } from "../wire/spec.ts";
import type { Claims } from "./claims.ts";
import type { UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";

const AT = Ethernet.HEADER_LENGTH;
const broadcast = new Uint8Array(6).fill(0xff);

/** ARP (RFC 826) for the gateway and the name server. Who claims an address of ours or of another card is not believed. */
export class ArpResponder {
  readonly #network: UserNetwork;
  readonly #claims: Claims;
  readonly #writer: PacketWriter;

  constructor(network: UserNetwork, claims: Claims, writer: PacketWriter) {
    this.#network = network;
    this.#claims = claims;
    this.#writer = writer;
  }

  /** False where the packet is none or claims what is not its own. */
  take(frame: Uint8Array, length: number): boolean {
    if (
      length < AT + Arp.LENGTH ||
      get16(frame, AT + Arp.HARDWARE) !== 1 ||
      get16(frame, AT + Arp.PROTOCOL) !== EtherType.IPV4 ||
      get16(frame, AT + Arp.HARDWARE_LENGTH) !== 0x0604 ||
      macKey(frame, AT + Arp.SENDER_MAC) !== macKey(frame, Ethernet.SOURCE)
    ) {
      return false;
    }
    const sender = get32(frame, AT + Arp.SENDER_IP);
    // A probe has no sender (RFC 5227 §2.1.1): it claims nothing.
    if (sender !== 0 && !this.#claims.claim(sender, frame, AT + Arp.SENDER_MAC)) return false;
    const target = get32(frame, AT + Arp.TARGET_IP);
    if (get16(frame, AT + Arp.OPERATION) !== Arp.REQUEST) return true;
    if (target !== this.#network.gateway && target !== this.#network.dns) return true;
    const reply = frame.slice(AT, AT + Arp.LENGTH);
    put16(reply, Arp.OPERATION, Arp.REPLY);
    reply.set(frame.subarray(AT + Arp.SENDER_MAC, AT + Arp.TARGET_MAC), Arp.TARGET_MAC);
    reply.set(this.#network.gatewayMac, Arp.SENDER_MAC);
    put32(reply, Arp.SENDER_IP, target);
    this.#writer.raw(frame.slice(Ethernet.SOURCE, Ethernet.TYPE), EtherType.ARP, reply);
    return true;
  }

  /** Asks who has `address`. */
  ask(address: number): void {
    const request = new Uint8Array(Arp.LENGTH);
    put16(request, Arp.HARDWARE, 1);
    put16(request, Arp.PROTOCOL, EtherType.IPV4);
    put16(request, Arp.HARDWARE_LENGTH, 0x0604);
    put16(request, Arp.OPERATION, Arp.REQUEST);
    request.set(this.#network.gatewayMac, Arp.SENDER_MAC);
    put32(request, Arp.SENDER_IP, this.#network.gateway);
    put32(request, Arp.TARGET_IP, address);
    this.#writer.raw(broadcast, EtherType.ARP, request);
  }
}
