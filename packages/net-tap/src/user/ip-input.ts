import { get16, get32 } from "../wire/bytes.ts";
import { checksum } from "../wire/checksum.ts";
import { type Ip, readIpv6 } from "../wire/ip.ts";
import { Extension, Fragment6, Ip6 } from "../wire/spec6.ts";
import { Ethernet, Ip4 } from "../wire/spec.ts";
import type { Fragments } from "./fragments.ts";
import type { Packet } from "./packet.ts";

/** What came of a frame: a packet, the beginning of one, or nothing that is allowed. */
export type Input = "whole" | "partial" | "wrong";

const IP_AT = Ethernet.HEADER_LENGTH;
/** More headers than these before the transport's are an attack. */
const MOST_EXTENSIONS = 8;

/** Whether the card whose frame this is may send from an address: a fragment of another's is not kept. */
type MaySend = (source: Ip) => boolean;

/** Reads the IPv4 packet of a frame into `packet`, put together where it is a fragment (RFC 791, RFC 815). */
export function readIpv4Packet(
  frame: Uint8Array,
  length: number,
  packet: Packet,
  fragments: Fragments,
  maySend: MaySend,
): Input {
  const headerLength = ((frame[IP_AT] ?? 0) & 15) * 4;
  const total = get16(frame, IP_AT + Ip4.TOTAL_LENGTH);
  if (
    (frame[IP_AT] ?? 0) >>> 4 !== 4 ||
    headerLength < Ip4.HEADER_LENGTH ||
    total < headerLength ||
    IP_AT + total > length ||
    checksum(frame, IP_AT, IP_AT + headerLength) !== 0
  ) {
    return "wrong";
  }
  packet.bytes = frame;
  packet.header = IP_AT;
  packet.addresses = IP_AT + Ip4.SOURCE;
  packet.addressesLength = 8;
  packet.source = get32(frame, IP_AT + Ip4.SOURCE);
  packet.destination = get32(frame, IP_AT + Ip4.DESTINATION);
  packet.protocol = frame[IP_AT + Ip4.PROTOCOL] ?? 0;
  packet.hopLimit = frame[IP_AT + Ip4.TTL] ?? 0;
  packet.body = IP_AT + headerLength;
  packet.end = IP_AT + total;
  const fragment = get16(frame, IP_AT + Ip4.FRAGMENT);
  const hasMore = (fragment & Ip4.MORE_FRAGMENTS) !== 0;
  const offset = (fragment & Ip4.OFFSET_MASK) * 8;
  if (!hasMore && offset === 0) return "whole";
  if (!maySend(packet.source)) return "wrong";
  // RFC 791 §3.2 "Identification": these four tell datagrams apart.
  const id = get16(frame, IP_AT + Ip4.IDENTIFICATION);
  const key = `4 ${packet.source} ${packet.destination} ${packet.protocol} ${id}`;
  const whole = fragments.add(key, offset, frame.subarray(packet.body, packet.end), hasMore);
  return join(packet, whole);
}

/** Reads the IPv6 packet of a frame into `packet`, past its extension headers (RFC 8200 §4). */
export function readIpv6Packet(
  frame: Uint8Array,
  length: number,
  packet: Packet,
  fragments: Fragments,
  maySend: MaySend,
): Input {
  const end = IP_AT + Ip6.HEADER_LENGTH + get16(frame, IP_AT + Ip6.PAYLOAD_LENGTH);
  if (length < IP_AT + Ip6.HEADER_LENGTH || (frame[IP_AT] ?? 0) >>> 4 !== 6 || end > length) return "wrong";
  packet.bytes = frame;
  packet.header = IP_AT;
  packet.addresses = IP_AT + Ip6.SOURCE;
  packet.addressesLength = 32;
  packet.source = readIpv6(frame, IP_AT + Ip6.SOURCE);
  packet.destination = readIpv6(frame, IP_AT + Ip6.DESTINATION);
  packet.protocol = frame[IP_AT + Ip6.NEXT_HEADER] ?? 0;
  packet.hopLimit = frame[IP_AT + Ip6.HOP_LIMIT] ?? 0;
  packet.body = IP_AT + Ip6.HEADER_LENGTH;
  packet.end = end;
  for (let left = MOST_EXTENSIONS; left > 0; left -= 1) {
    switch (packet.protocol) {
      case Extension.HOP_BY_HOP:
      case Extension.ROUTING:
      case Extension.DESTINATION_OPTIONS: {
        const next = packet.bytes[packet.body] ?? 0;
        packet.body += 8 + (packet.bytes[packet.body + 1] ?? 0) * 8;
        if (packet.body > packet.end) return "wrong";
        packet.protocol = next;
        break;
      }
      case Extension.FRAGMENT: {
        const input = takeFragment6(packet, fragments, maySend);
        if (input !== "whole") return input;
        break;
      }
      default:
        return "whole";
    }
  }
  return "wrong";
}

function takeFragment6(packet: Packet, fragments: Fragments, maySend: MaySend): Input {
  const { bytes, body, end } = packet;
  if (body + Fragment6.LENGTH > end) return "wrong";
  const field = get16(bytes, body + Fragment6.OFFSET);
  const hasMore = (field & Fragment6.MORE) !== 0;
  const offset = field & 0xfff8;
  packet.protocol = bytes[body + Fragment6.NEXT_HEADER] ?? 0;
  packet.body = body + Fragment6.LENGTH;
  // An atomic fragment stands alone (RFC 6946).
  if (!hasMore && offset === 0) return "whole";
  if (!maySend(packet.source)) return "wrong";
  // Next header differs between fragments at will; identification and addresses tell (RFC 8200 §4.5).
  const key = `6 ${packet.source} ${packet.destination} ${get32(bytes, body + Fragment6.IDENTIFICATION)}`;
  const whole = fragments.add(key, offset, bytes.subarray(packet.body, end), hasMore);
  return join(packet, whole);
}

/** Puts the header of this fragment before the whole body. */
function join(packet: Packet, whole: Uint8Array | undefined): Input {
  if (whole === undefined) return "partial";
  const headerLength = packet.body - packet.header;
  const bytes = new Uint8Array(headerLength + whole.length);
  bytes.set(packet.bytes.subarray(packet.header, packet.body));
  bytes.set(whole, headerLength);
  packet.bytes = bytes;
  packet.addresses -= packet.header;
  packet.header = 0;
  packet.body = headerLength;
  packet.end = bytes.length;
  return "whole";
}
