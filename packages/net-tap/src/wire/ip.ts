import { isIPv6, SocketAddress } from "node:net";
import { NorthbridgeError } from "@northbridge/sdk";
import { contains, formatIpv4, type Ipv4, ipv4From, parseSubnet, type Subnet } from "./address.ts";

/** An IPv6 address as 16 characters, one for each byte: a key that is cheap to make and to write back. */
export type Ipv6 = string;

/** An address of either family: a number is IPv4. */
export type Ip = Ipv4 | Ipv6;

export interface Subnet6 {
  readonly network: Ipv6;
  readonly prefix: number;
}

export type IpNetwork = Subnet | Subnet6;

export const UNSPECIFIED6: Ipv6 = "\0".repeat(16);
/** ff02::1, all nodes of the link (RFC 4291 §2.7.1). */
export const ALL_NODES: Ipv6 = `\xff\x02${"\0".repeat(13)}\x01`;

export function readIpv6(bytes: Uint8Array, at: number): Ipv6 {
  let text = "";
  for (let index = at; index < at + 16; index += 1) text += String.fromCharCode(bytes[index] ?? 0);
  return text;
}

export function writeIpv6(bytes: Uint8Array, at: number, address: Ipv6): void {
  for (let index = 0; index < 16; index += 1) bytes[at + index] = address.charCodeAt(index);
}

/** The address that text names (RFC 4291 §2.2, no zone), `undefined` where it is not one. */
export function ipv6From(text: string): Ipv6 | undefined {
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const quad = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const v4 = quad?.[2] === undefined ? undefined : ipv4From(quad[2]);
  const whole =
    quad === null || v4 === undefined
      ? text
      : `${quad[1] ?? ""}${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
  const [head = "", tail] = whole.split("::");
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const middle = new Array<number>(8 - left.length - right.length).fill(0);
  return [...left, ...middle, ...right]
    .map((group) => String.fromCharCode(group >>> 8, group & 255))
    .join("");
}

function groups(text: string): number[] {
  return text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
}

/** The canonical text of an address (RFC 5952). */
export function formatIpv6(address: Ipv6): string {
  const parts: number[] = [];
  for (let index = 0; index < 16; index += 2) {
    parts.push((address.charCodeAt(index) << 8) | address.charCodeAt(index + 1));
  }
  let zeroFrom = -1;
  let zeroLength = 1;
  for (let from = 0; from < 8; from += 1) {
    let length = 0;
    while (parts[from + length] === 0) length += 1;
    if (length > zeroLength) {
      zeroFrom = from;
      zeroLength = length;
    }
  }
  const text = (from: number, to: number): string =>
    parts
      .slice(from, to)
      .map((part) => part.toString(16))
      .join(":");
  return zeroFrom < 0 ? text(0, 8) : `${text(0, zeroFrom)}::${text(zeroFrom + zeroLength, 8)}`;
}

export function ipFrom(text: string): Ip | undefined {
  return ipv4From(text) ?? ipv6From(text);
}

/** The text by which this host names the sender of what comes from `text`; `undefined` where that is no address. */
export function hostAddress(text: string): string | undefined {
  const address = ipFrom(text);
  if (address === undefined) return undefined;
  // What is sent to nobody in particular goes to this host (RFC 1122 §3.2.1.3).
  if (address === 0) return "127.0.0.1";
  if (address === UNSPECIFIED6) return "::1";
  return new SocketAddress({ address: text, family: typeof address === "number" ? "ipv4" : "ipv6" }).address;
}

export function formatIp(address: Ip): string {
  return typeof address === "number" ? formatIpv4(address) : formatIpv6(address);
}

/** Parses an address of either family of a config. Throws `NB_CONFIG` that names `path`. */
export function parseIp(text: string, path: string): Ip {
  const address = ipFrom(text);
  if (address !== undefined) return address;
  throw new NorthbridgeError("NB_CONFIG", `${path}: expected an IP address, found "${text}"`);
}

/** Parses `fd00:1::/64`. Throws `NB_CONFIG` that names `path`. */
export function parseSubnet6(
  text: string,
  path: string,
  prefixes: readonly [number, number] = [0, 128],
): Subnet6 {
  const [base = "", length = "", ...rest] = text.split("/");
  const address = ipv6From(base);
  const prefix = /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (address === undefined || rest.length > 0 || prefix < prefixes[0] || prefix > prefixes[1]) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected a network such as fd00:1::/64 with a prefix of ${prefixes[0]} to ${prefixes[1]}, found "${text}"`,
    );
  }
  const network = masked(address, prefix);
  if (network !== address) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: "${text}" has bits of the host set: write ${formatIpv6(network)}/${prefix}`,
    );
  }
  return { network, prefix };
}

/** Parses a network of either family. Throws `NB_CONFIG` that names `path`. */
export function parseNetwork(text: string, path: string): IpNetwork {
  return text.includes(":") ? parseSubnet6(text, path) : parseSubnet(text, path);
}

export function contains6(subnet: Subnet6, address: Ipv6): boolean {
  return masked(address, subnet.prefix) === subnet.network;
}

export function networkContains(network: IpNetwork, address: Ip): boolean {
  if (typeof address === "number") return "mask" in network && contains(network, address);
  return !("mask" in network) && contains6(network, address);
}

/** Whether all of `inner` lies in `outer`. */
export function isWithin(inner: IpNetwork, outer: IpNetwork): boolean {
  return inner.prefix >= outer.prefix && networkContains(outer, inner.network);
}

/** An address and a port as a key of a map: an exact number for IPv4. */
export type EndpointKey = number | string;

export function endpointKey(address: Ip, port: number): EndpointKey {
  return typeof address === "number" ? address * 65_536 + port : address + String.fromCharCode(port);
}

/** The address whose last 64 bits are `host`, in a network. */
export function hostOf(subnet: Subnet6, host: number): Ipv6 {
  const bytes = new Uint8Array(16);
  writeIpv6(bytes, 0, subnet.network);
  new DataView(bytes.buffer).setUint32(12, host);
  return readIpv6(bytes, 0);
}

export function isMulticast(address: Ip): boolean {
  return typeof address === "number" ? address >>> 28 === 14 : address.charCodeAt(0) === 0xff;
}

/** fe80::/10 (RFC 4291 §2.5.6). */
export function isLinkLocal6(address: Ipv6): boolean {
  return address.charCodeAt(0) === 0xfe && (address.charCodeAt(1) & 0xc0) === 0x80;
}

function masked(address: Ipv6, prefix: number): Ipv6 {
  let text = "";
  for (let index = 0; index < 16; index += 1) {
    const bits = Math.min(8, Math.max(0, prefix - index * 8));
    text += String.fromCharCode(address.charCodeAt(index) & (0xff00 >>> bits) & 0xff);
  }
  return text;
}
