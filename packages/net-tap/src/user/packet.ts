import type { Ip } from "../wire/ip.ts";
import { addToSum, foldSum } from "../wire/checksum.ts";

/** An IP packet of a guest, checked and whole. One object is reused for all: nothing may keep it. */
export interface Packet {
  bytes: Uint8Array;
  /** Where its IP header begins. */
  header: number;
  /** Where the transport's header begins, and where the packet ends. */
  body: number;
  end: number;
  /** Source and destination as they stand in the header, next to each other. */
  addresses: number;
  addressesLength: number;
  source: Ip;
  destination: Ip;
  protocol: number;
  hopLimit: number;
  /** The guest left the transport's checksum to us: nothing has happened to the packet on its way. */
  isUnsummed: boolean;
}

export function newPacket(): Packet {
  return {
    bytes: new Uint8Array(0),
    header: 0,
    body: 0,
    end: 0,
    addresses: 0,
    addressesLength: 0,
    source: 0,
    destination: 0,
    protocol: 0,
    hopLimit: 0,
    isUnsummed: false,
  };
}

/** Whether the checksum over pseudo-header and body of `length` bytes holds (RFC 9293 §3.1, RFC 8200 §8.1). */
export function hasRightSum(packet: Packet, length: number): boolean {
  if (packet.isUnsummed) return true;
  const { bytes, addresses, body } = packet;
  const pseudo = addToSum(bytes, addresses, addresses + packet.addressesLength, packet.protocol + length);
  return foldSum(addToSum(bytes, body, body + length, pseudo)) === 0;
}
