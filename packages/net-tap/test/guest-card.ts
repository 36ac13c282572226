import type { NetBackend } from "@northbridge/sdk";

/** Numbers as the RFCs have them, written down apart from the code under test. */
const ETHERNET = 14;
export const guestMac = [0x52, 0x54, 0, 0x12, 0x34, 0x56] as const;
export const otherMac = [0x52, 0x54, 0, 0x66, 0x66, 0x66] as const;
export const gatewayMac = [0x52, 0x55, 0x0a, 0, 2, 2] as const;
export const broadcastMac = [255, 255, 255, 255, 255, 255] as const;

const be16 = (value: number): number[] => [(value >>> 8) & 255, value & 255];
const v4 = (text: string): number[] => text.split(".").map(Number);

/** RFC 1071, the plain way. */
export function internetSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export const ethernet = (
  to: readonly number[],
  from: readonly number[],
  type: number,
  payload: readonly number[],
): Uint8Array => Uint8Array.from([...to, ...from, ...be16(type), ...payload]);

export interface PacketOptions {
  readonly from?: string;
  readonly to?: string;
  readonly mac?: readonly number[];
  /** Flags and offset field. */
  readonly fragment?: number;
  readonly id?: number;
}

/** An IPv4 packet in a frame to the gateway (RFC 791 §3.1). */
export function ipv4(protocol: number, body: readonly number[], options: PacketOptions = {}): Uint8Array {
  const { from = "10.0.2.15", to = "10.0.2.2", mac = guestMac, fragment = 0, id = 1 } = options;
  const header = [
    0x45,
    0,
    ...be16(20 + body.length),
    ...be16(id),
    ...be16(fragment),
    64,
    protocol,
    0,
    0,
    ...v4(from),
    ...v4(to),
  ];
  const sum = internetSum(header);
  header[10] = sum >>> 8;
  header[11] = sum & 255;
  const isBroadcast = to === "255.255.255.255";
  return ethernet(isBroadcast ? broadcastMac : gatewayMac, mac, 0x0800, [...header, ...body]);
}

/** UDP body without a checksum (RFC 768 allows it over IPv4). */
export const udpBody = (fromPort: number, toPort: number, payload: readonly number[]): number[] => [
  ...be16(fromPort),
  ...be16(toPort),
  ...be16(8 + payload.length),
  0,
  0,
  ...payload,
];

export const udp = (
  fromPort: number,
  toPort: number,
  payload: readonly number[],
  options?: PacketOptions,
): Uint8Array => ipv4(17, udpBody(fromPort, toPort, payload), options);

/** An ARP packet (RFC 826). */
export const arp = (
  operation: 1 | 2,
  senderMac: readonly number[],
  sender: string,
  target: string,
  source: readonly number[] = senderMac,
): Uint8Array =>
  ethernet(broadcastMac, source, 0x0806, [
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    operation,
    ...senderMac,
    ...v4(sender),
    0,
    0,
    0,
    0,
    0,
    0,
    ...v4(target),
  ]);

/** An echo request (RFC 792). */
export function echo(payload: readonly number[], options?: PacketOptions): Uint8Array {
  const body = [8, 0, 0, 0, 0, 1, 0, 1, ...payload];
  const sum = internetSum(body);
  body[2] = sum >>> 8;
  body[3] = sum & 255;
  return ipv4(1, body, options);
}

export interface SegmentOptions extends PacketOptions {
  readonly acknowledgment?: number;
  readonly payload?: readonly number[];
}

/** A TCP segment without options (RFC 9293 §3.1). */
export function tcp(
  fromPort: number,
  toPort: number,
  sequence: number,
  flags: number,
  options: SegmentOptions = {},
): Uint8Array {
  const { from = "10.0.2.15", to = "10.0.2.2", acknowledgment = 0, payload = [] } = options;
  const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
  const body = [
    ...be16(fromPort),
    ...be16(toPort),
    ...be32(sequence),
    ...be32(acknowledgment),
    0x50,
    flags,
    0xff,
    0xff,
    0,
    0,
    0,
    0,
    ...payload,
  ];
  const sum = internetSum([...v4(from), ...v4(to), 0, 6, ...be16(body.length), ...body]);
  body[16] = sum >>> 8;
  body[17] = sum & 255;
  return ipv4(6, body, options);
}

/** The card of a guest on a back end: what it has received, in order. */
export class GuestCard {
  readonly received: Uint8Array[] = [];
  readonly #net: NetBackend;
  readonly #waiting: {
    readonly wanted: (frame: Uint8Array) => boolean;
    readonly found: (frame: Uint8Array) => void;
  }[] = [];
  hasRoom = true;

  constructor(net: NetBackend) {
    this.#net = net;
    net.connect(
      (frame) => {
        if (!this.hasRoom) return false;
        const copy = frame.slice();
        this.received.push(copy);
        const index = this.#waiting.findIndex(({ wanted }) => wanted(copy));
        if (index >= 0) this.#waiting.splice(index, 1)[0]?.found(copy);
        return true;
      },
      () => undefined,
    );
  }

  send(...frames: readonly Uint8Array[]): void {
    for (const frame of frames) this.#net.send([frame]);
  }

  /** The next frame that comes in from now on and is wanted. */
  next(wanted: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    return new Promise((found) => {
      this.#waiting.push({ wanted, found });
    });
  }

  /**
   * What came back for `frames`: everything up to the answer to a question sent after them, which only orders.
   */
  async answers(...frames: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
    const from = this.received.length;
    const marker = [...arp(1, markerMac, "0.0.0.0", "10.0.2.3")];
    const answered = this.next((frame) => isArpReplyTo(frame, markerMac));
    this.send(...frames, Uint8Array.from(marker));
    const last = await answered;
    return this.received.slice(from).filter((frame) => frame !== last);
  }
}

const markerMac = [0x52, 0x54, 0, 0, 0, 1] as const;
const isArpReplyTo = (frame: Uint8Array, mac: readonly number[]): boolean =>
  frame[13] === 6 && frame[21] === 2 && mac.every((byte, at) => frame[at] === byte);

/** Parts of an IPv4 frame, where they stand. */
export const field = {
  protocol: (frame: Uint8Array): number => frame[ETHERNET + 9] ?? 0,
  source: (frame: Uint8Array): string => frame.subarray(ETHERNET + 12, ETHERNET + 16).join("."),
  destination: (frame: Uint8Array): string => frame.subarray(ETHERNET + 16, ETHERNET + 20).join("."),
  body: (frame: Uint8Array): Uint8Array => frame.subarray(ETHERNET + 20),
  port: (frame: Uint8Array, at: 0 | 2): number =>
    ((frame[ETHERNET + 20 + at] ?? 0) << 8) | (frame[ETHERNET + 21 + at] ?? 0),
  udpPayload: (frame: Uint8Array): Uint8Array => frame.subarray(ETHERNET + 28),
  tcpSequence: (frame: Uint8Array): number =>
    new DataView(frame.buffer, frame.byteOffset).getUint32(ETHERNET + 24),
  tcpAcknowledgment: (frame: Uint8Array): number =>
    new DataView(frame.buffer, frame.byteOffset).getUint32(ETHERNET + 28),
  tcpWindow: (frame: Uint8Array): number =>
    new DataView(frame.buffer, frame.byteOffset).getUint16(ETHERNET + 34),
  tcpFlags: (frame: Uint8Array): number => frame[ETHERNET + 33] ?? 0,
} as const;
