import { read16 } from "./checksum.ts";
import { Ethernet, EtherType, Ipv4, Ipv6, Protocol } from "./spec.ts";

const ENTRIES = 256;

/**
 * Automatic receive steering (virtio 1.3 §5.1.6.5.5): a flow's frames go to the receive queue that goes with the
 * transmit queue on which the driver last sent a frame of it. Flows share the entries of a table.
 */
export class Steering {
  readonly #pairs: Uint8Array = new Uint8Array(ENTRIES);

  reset(): void {
    this.#pairs.fill(0);
  }

  /** The driver sent a frame that begins so on queue pair `pair`. */
  sent(headers: Uint8Array, pair: number): void {
    this.#pairs[flow(headers)] = pair;
  }

  /** The pair whose receive queue gets the frame. */
  pairOf(frame: Uint8Array): number {
    return this.#pairs[flow(frame)] ?? 0;
  }

  save(): number[] {
    return Array.from(this.#pairs);
  }

  restore(pairs: readonly number[]): void {
    this.#pairs.set(pairs.slice(0, ENTRIES));
  }
}

/** An entry for the flow of a frame, the same for both directions: addresses and ports of IP without options, or 0. */
function flow(frame: Uint8Array): number {
  const type = read16(frame, Ethernet.TYPE);
  const l3 = Ethernet.HEADER;
  let hash = 0;
  let l4 = l3 + Ipv4.HEADER;
  let protocol: number;
  if (type === EtherType.IPV4 && frame[l3] === 0x45) {
    protocol = frame[l3 + Ipv4.PROTOCOL] ?? 0;
    for (let at = 0; at < 8; at += 2) hash ^= read16(frame, l3 + Ipv4.ADDRESSES + at);
  } else if (type === EtherType.IPV6) {
    l4 = l3 + Ipv6.HEADER;
    protocol = frame[l3 + Ipv6.NEXT_HEADER] ?? 0;
    for (let at = 0; at < 32; at += 2) hash ^= read16(frame, l3 + Ipv6.ADDRESSES + at);
  } else {
    return 0;
  }
  if (protocol === Protocol.TCP || protocol === Protocol.UDP)
    hash ^= read16(frame, l4) ^ read16(frame, l4 + 2);
  return (hash ^ (hash >>> 8)) & (ENTRIES - 1);
}
