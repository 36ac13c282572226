import { NorthbridgeError } from "@northbridge/sdk";

/** An IPv4 address as a number, most significant byte first. */
export type Ipv4 = number;

export const BROADCAST: Ipv4 = 0xffff_ffff;

/** A network and its mask, both as numbers. */
export interface Subnet {
  readonly network: Ipv4;
  readonly mask: number;
  readonly prefix: number;
}

/** The address that dotted decimal text names, `undefined` where it is not one (RFC 6943 §3.1.1, strict form). */
export function ipv4From(text: string): Ipv4 | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (const part of match.slice(1)) {
    const byte = Number(part);
    if (byte > 255 || (part.length > 1 && part.startsWith("0"))) return undefined;
    value = value * 256 + byte;
  }
  return value;
}

/** Parses an address of a config. Throws `NB_CONFIG` that names `path`. */
export function parseIpv4(text: string, path: string): Ipv4 {
  const address = ipv4From(text);
  if (address === undefined) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected an IPv4 address such as 10.0.2.15, found "${text}"`,
    );
  }
  return address;
}

/** Parses `10.0.2.0/24`. Throws `NB_CONFIG` that names `path`. */
export function parseSubnet(
  text: string,
  path: string,
  prefixes: readonly [number, number] = [0, 32],
): Subnet {
  const [base = "", length = "", ...rest] = text.split("/");
  const address = ipv4From(base);
  const prefix = /^\d{1,2}$/.test(length) ? Number(length) : -1;
  if (address === undefined || rest.length > 0 || prefix < prefixes[0] || prefix > prefixes[1]) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected a network such as 10.0.2.0/24 with a prefix of ${prefixes[0]} to ${prefixes[1]}, found "${text}"`,
    );
  }
  const mask = prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0;
  if ((address & ~mask) !== 0) {
    const network = formatIpv4((address & mask) >>> 0);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: "${text}" has bits of the host set: write ${network}/${prefix}`,
    );
  }
  return { network: address, mask, prefix };
}

export function contains(subnet: Subnet, address: Ipv4): boolean {
  return (address & subnet.mask) >>> 0 === subnet.network;
}

export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Parses `52:55:0a:00:02:02`. Throws `NB_CONFIG` that names `path`; a group address is refused too. */
export function parseMac(text: string, path: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected a MAC address such as 52:55:0a:00:02:02, found "${text}"`,
    );
  }
  const mac = Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  if (isGroupMac(mac, 0)) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: "${text}" is a group address: clear the lowest bit of its first byte`,
    );
  }
  return mac;
}

/** An address as it is written. */
export function formatMac(bytes: Uint8Array, at: number): string {
  return Array.from(bytes.subarray(at, at + 6), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The I/G bit: multicast or broadcast (IEEE 802-2014 §8.2.2). */
export function isGroupMac(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] ?? 0) & 1) !== 0;
}

/** A MAC address as one exact number, to be a key without a string. */
export function macKey(bytes: Uint8Array, at: number): number {
  let key = 0;
  for (let index = 0; index < 6; index += 1) key = key * 256 + (bytes[at + index] ?? 0);
  return key;
}
