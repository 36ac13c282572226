/** A frame of which the sender left the checksum to the link. */
export interface UnsummedFrame {
  readonly frame: Uint8Array;
  /** As `NetBackend.send` takes it. */
  readonly header: Uint8Array;
  /** What comes out at the other end. */
  readonly arrives: Uint8Array;
}

/** The frames that the suite sends through a link, told apart by a tag from 1 to 255. */
export interface LinkFrames {
  /** A frame of `length` bytes for `send`, and what `LinkUnderTest.sent` gives for it. */
  outgoing(tag: number, length: number): { readonly frame: Uint8Array; readonly arrives: Uint8Array };
  /** What `LinkUnderTest.deliver` takes so that a frame of `length` bytes reaches the consumer. */
  incoming(tag: number, length: number): Uint8Array;
  /** The tag of what reached the consumer; 0 where it was changed, `undefined` where it is none of the suite's. */
  tagOf(frame: Uint8Array): number | undefined;
  /** As `outgoing`, for links that take checksums on. @defaultValue they are not asked to */
  unsummed?(tag: number, length: number): UnsummedFrame;
}

/** Where the transport's header of IPv4 without options begins, and UDP's checksum in it: Linux takes no sum from before. */
const SUMMED = { START: 34, OFFSET: 6 } as const;
/** IEEE 802 local experimental: what else a host says for itself is of another type. */
const ETHERTYPE = 0x88b5;
/** `struct virtio_net_hdr` with `num_buffers` (virtio 1.3 §5.1.6). */
const VIRTIO_HEADER = { LENGTH: 12, NEEDS_CSUM: 1, CSUM_START: 6, CSUM_OFFSET: 8 } as const;

/** A header that leaves the checksum over all from `start` on to the link: it goes to `start + offset`. */
export function unsummedHeader(start: number, offset: number): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_HEADER.LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VIRTIO_HEADER.NEEDS_CSUM);
  view.setUint16(VIRTIO_HEADER.CSUM_START, start, true);
  view.setUint16(VIRTIO_HEADER.CSUM_OFFSET, offset, true);
  return bytes;
}

/** Whether a header that came with a frame says that work on it is left. */
export const isUndone = (header: Uint8Array | undefined): boolean =>
  header !== undefined && (((header[0] ?? 0) & VIRTIO_HEADER.NEEDS_CSUM) !== 0 || header[1] !== 0);

/** An Ethernet frame to everybody, full of `tag`. */
function etherFrame(tag: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(tag);
  bytes.fill(0xff, 0, 6);
  bytes.set([0x02, 0, 0, 0, 0, tag, ETHERTYPE >>> 8, ETHERTYPE & 0xff], 6);
  return bytes;
}

/** Frames of an Ethernet that carries any. */
export const etherFrames: LinkFrames = {
  outgoing(tag, length) {
    const frame = etherFrame(tag, length);
    return { frame, arrives: frame };
  },
  incoming: etherFrame,
  tagOf(frame) {
    if (((frame[12] ?? 0) << 8) + (frame[13] ?? 0) !== ETHERTYPE) return undefined;
    const tag = frame[11] ?? 0;
    return etherFrame(tag, frame.length).every((byte, at) => byte === frame[at]) ? tag : 0;
  },
  unsummed(tag, length) {
    const frame = etherFrame(tag, length);
    const at = SUMMED.START + SUMMED.OFFSET;
    frame.fill(0, at, at + 2);
    const arrives = frame.slice();
    new DataView(arrives.buffer).setUint16(at, internetChecksum(frame.subarray(SUMMED.START)));
    return { frame, header: unsummedHeader(SUMMED.START, SUMMED.OFFSET), arrives };
  },
};

/** RFC 1071 §1. */
function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return ~sum & 0xffff;
}
