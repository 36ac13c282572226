import type { NetOffloads } from "@northbridge/sdk";
import type { FeatureSet } from "@northbridge/sdk/virtio";
import { Feature, Gso, Header, HeaderFlag } from "./spec.ts";

/** What is undone of one frame: struct virtio_net_hdr, read (virtio 1.3 §5.1.6). Reused for every frame. */
export class OffloadHeader {
  flags = 0;
  gso = 0;
  gsoSize = 0;
  start = 0;
  offset = 0;

  /** @param bytes at least 10, little-endian */
  read(bytes: Uint8Array): void {
    const u16 = (at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
    this.flags = bytes[Header.FLAGS] ?? 0;
    this.gso = bytes[Header.GSO_TYPE] ?? 0;
    this.gsoSize = u16(Header.GSO_SIZE);
    this.start = u16(Header.CSUM_START);
    this.offset = u16(Header.CSUM_OFFSET);
  }

  get needsChecksum(): boolean {
    return (this.flags & HeaderFlag.NEEDS_CSUM) !== 0;
  }

  get isLarge(): boolean {
    return this.gso !== Gso.NONE;
  }

  /** Whether it makes sense of a frame of `length` bytes: a large one needs its checksum too (§5.1.6.2.1). */
  fits(length: number): boolean {
    if (this.needsChecksum)
      return this.start + this.offset + 2 <= length && (!this.isLarge || this.gsoSize > 0);
    return !this.isLarge;
  }

  /** Whether all that is undone is among `offloads`. */
  isWithin(offloads: NetOffloads): boolean {
    if (this.needsChecksum && !offloads.checksum) return false;
    if ((this.gso & Gso.ECN) !== 0 && !offloads.ecn) return false;
    switch (this.gso & ~Gso.ECN) {
      case Gso.NONE:
        return this.gso === Gso.NONE;
      case Gso.TCPV4:
        return offloads.tso4;
      case Gso.TCPV6:
        return offloads.tso6;
      case Gso.UDP_L4:
        return this.gso === Gso.UDP_L4 && offloads.uso;
      default:
        return false;
    }
  }
}

export const NO_OFFLOADS: NetOffloads = { checksum: false, tso4: false, tso6: false, ecn: false, uso: false };

/** What the driver may leave to the device. */
export const hostOffloads = (features: FeatureSet): NetOffloads => ({
  checksum: features.has(Feature.CSUM),
  tso4: features.has(Feature.HOST_TSO4),
  tso6: features.has(Feature.HOST_TSO6),
  ecn: features.has(Feature.HOST_ECN),
  uso: features.has(Feature.HOST_USO),
});

/** What the device may leave to the driver. UDP segmentation is one thing to a back end: both versions of IP or none. */
export const guestOffloads = (features: FeatureSet): NetOffloads => ({
  checksum: features.has(Feature.GUEST_CSUM),
  tso4: features.has(Feature.GUEST_TSO4),
  tso6: features.has(Feature.GUEST_TSO6),
  ecn: features.has(Feature.GUEST_ECN),
  uso: features.has(Feature.GUEST_USO4) && features.has(Feature.GUEST_USO6),
});

/** Features that a driver turns on and off by GUEST_OFFLOADS_SET (§5.1.6.5.6). */
export const GUEST_OFFLOAD_FEATURES: readonly number[] = [
  Feature.GUEST_CSUM,
  Feature.GUEST_TSO4,
  Feature.GUEST_TSO6,
  Feature.GUEST_ECN,
  Feature.GUEST_USO4,
  Feature.GUEST_USO6,
];

export const both = (a: NetOffloads, b: NetOffloads): NetOffloads => ({
  checksum: a.checksum && b.checksum,
  tso4: a.tso4 && b.tso4,
  tso6: a.tso6 && b.tso6,
  ecn: a.ecn && b.ecn,
  uso: a.uso && b.uso,
});
