import { get16, put16 } from "../wire/bytes.ts";
import { writeIpv6 } from "../wire/ip.ts";
import { Dhcp6 } from "../wire/spec6.ts";
import type { Ipv6Network, UserNetwork } from "./options.ts";

/** Longest DUID (RFC 8415 §11.1). */
const LONGEST_DUID = 130;

/**
 * Answers one message of stateless DHCPv6 (RFC 8415 §18.3.6): name server and search domain for guests that made their
 * own addresses. Anything but an information request gets no answer.
 */
export function answerDhcpv6(
  message: Uint8Array,
  network: UserNetwork,
  v6: Ipv6Network,
): Uint8Array | undefined {
  if (message.length < 4 || message[0] !== Dhcp6.INFORMATION_REQUEST) return undefined;
  const server = Uint8Array.from([0, 3, 0, 1, ...network.gatewayMac]); // DUID-LL (§11.4)
  const client = option(message, Dhcp6.OPTION_CLIENT_ID);
  const wanted = option(message, Dhcp6.OPTION_SERVER_ID);
  if (client !== undefined && client.length > LONGEST_DUID) return undefined;
  if (
    wanted !== undefined &&
    !(wanted.length === server.length && wanted.every((byte, at) => byte === server[at]))
  ) {
    return undefined;
  }
  const dns = new Uint8Array(16);
  writeIpv6(dns, 0, v6.dns);
  const parts = [
    Uint8Array.of(Dhcp6.REPLY, ...message.subarray(1, 4)),
    tagged(Dhcp6.OPTION_SERVER_ID, server),
  ];
  if (client !== undefined) parts.push(tagged(Dhcp6.OPTION_CLIENT_ID, client));
  parts.push(tagged(Dhcp6.OPTION_DNS_SERVERS, dns));
  if (network.domain !== "") parts.push(tagged(Dhcp6.OPTION_DOMAIN_LIST, encodedName(network.domain)));
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function option(message: Uint8Array, wanted: number): Uint8Array | undefined {
  for (let at = 4; at + 4 <= message.length; ) {
    const length = get16(message, at + 2);
    if (at + 4 + length > message.length) return undefined;
    if (get16(message, at) === wanted) return message.slice(at + 4, at + 4 + length);
    at += 4 + length;
  }
  return undefined;
}

function tagged(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + value.length);
  put16(bytes, 0, code);
  put16(bytes, 2, value.length);
  bytes.set(value, 4);
  return bytes;
}

/** A name as labels (RFC 1035 §3.1). */
function encodedName(name: string): Uint8Array {
  const bytes = name.split(".").flatMap((label) => [label.length, ...new TextEncoder().encode(label)]);
  return Uint8Array.from([...bytes, 0]);
}
