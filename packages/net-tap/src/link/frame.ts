import { NorthbridgeError } from "@northbridge/sdk";

/** Ethernet's header with a tag (IEEE 802.1Q), and the longest IP packet. */
export const LONGEST_FRAME: number = 18 + 65_535;

/** The MTU of a link. Throws `NB_CONFIG` where it is none. @param most what the link can carry */
export function checkMtu(mtu: number = 1500, most: number = 65_535): number {
  // RFC 791 §3.2: every link carries 68 bytes.
  if (Number.isInteger(mtu) && mtu >= 68 && mtu <= most) return mtu;
  throw new NorthbridgeError("NB_CONFIG", `mtu: expected a whole number from 68 to ${most}, found ${mtu}`);
}

/** Bytes of a frame that comes in parts. */
export function lengthOf(frame: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of frame) length += part.length;
  return length;
}

/** Copies a frame that comes in parts to `into[at…]`, as far as it has room. Bytes copied. */
export function gather(frame: readonly Uint8Array[], into: Uint8Array, at: number): number {
  let end = at;
  for (const part of frame) {
    const fitting = part.length <= into.length - end ? part : part.subarray(0, into.length - end);
    into.set(fitting, end);
    end += fitting.length;
  }
  return end - at;
}
