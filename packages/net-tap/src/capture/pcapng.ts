/** Block types and options (draft-ietf-opsawg-pcapng, §4 and §3.5). */
const Block = {
  SECTION_HEADER: 0x0a0d_0d0a,
  INTERFACE_DESCRIPTION: 1,
  INTERFACE_STATISTICS: 5,
  ENHANCED_PACKET: 6,
} as const;

const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET = 1;
const Option = {
  END: 0,
  IF_NAME: 2,
  IF_TSRESOL: 9,
  EPB_FLAGS: 2,
  SHB_USERAPPL: 4,
  ISB_IFRECV: 4,
  ISB_IFDROP: 5,
} as const;
const MICROSECONDS = 6;

/** Direction of a packet (epb_flags, §4.3.1). */
export const Direction = { INBOUND: 1, OUTBOUND: 2 } as const;

const padded = (length: number): number => (length + 3) & ~3;

/** A block with its type and both lengths around `body`, which is a multiple of four. */
function block(
  type: number,
  bodyLength: number,
  fill: (view: DataView, bytes: Uint8Array) => void,
): Uint8Array {
  const bytes = new Uint8Array(12 + bodyLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, bytes.length, true);
  fill(new DataView(bytes.buffer, 8, bodyLength), bytes.subarray(8, 8 + bodyLength));
  view.setUint32(8 + bodyLength, bytes.length, true);
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + padded(value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, 4);
  return bytes;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function join(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Beginning of a file with one Ethernet interface, its times in microseconds (§4.1, §4.2). */
export function pcapngHeader(interfaceName: string, snapLength: number): Uint8Array {
  const application = option(Option.SHB_USERAPPL, text("Northbridge"));
  const section = block(Block.SECTION_HEADER, 16 + application.length + 4, (view, bytes) => {
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    view.setUint16(6, 0, true);
    // Length of the section: not known beforehand.
    view.setInt32(8, -1, true);
    view.setInt32(12, -1, true);
    bytes.set(application, 16);
  });
  const options = join([
    option(Option.IF_NAME, text(interfaceName)),
    option(Option.IF_TSRESOL, Uint8Array.of(MICROSECONDS)),
  ]);
  const description = block(Block.INTERFACE_DESCRIPTION, 8 + options.length + 4, (view, bytes) => {
    view.setUint16(0, LINKTYPE_ETHERNET, true);
    view.setUint32(4, snapLength, true);
    bytes.set(options, 8);
  });
  return join([section, description]);
}

/** One packet (§4.3), of which the first `snapLength` bytes are kept. @param timeUs microseconds since 1970 UTC */
export function pcapngPacket(
  timeUs: number,
  direction: number,
  parts: readonly Uint8Array[],
  length: number,
  snapLength: number,
): Uint8Array {
  const captured = Math.min(length, snapLength);
  return block(Block.ENHANCED_PACKET, 20 + padded(captured) + 12, (view, bytes) => {
    view.setUint32(4, Math.floor(timeUs / 2 ** 32), true);
    view.setUint32(8, timeUs % 2 ** 32, true);
    view.setUint32(12, captured, true);
    view.setUint32(16, length, true);
    let at = 20;
    for (const part of parts) {
      const fitting = part.subarray(0, Math.max(0, 20 + captured - at));
      bytes.set(fitting, at);
      at += fitting.length;
    }
    const options = 20 + padded(captured);
    view.setUint16(options, Option.EPB_FLAGS, true);
    view.setUint16(options + 2, 4, true);
    view.setUint32(options + 4, direction, true);
  });
}

/** Counters at the end of a capture (§4.6). */
export function pcapngStatistics(timeUs: number, received: number, dropped: number): Uint8Array {
  return block(Block.INTERFACE_STATISTICS, 12 + 12 + 12 + 4, (view) => {
    view.setUint32(4, Math.floor(timeUs / 2 ** 32), true);
    view.setUint32(8, timeUs % 2 ** 32, true);
    [
      [Option.ISB_IFRECV, received],
      [Option.ISB_IFDROP, dropped],
    ].forEach(([code = 0, value = 0], index) => {
      const at = 12 + index * 12;
      view.setUint16(at, code, true);
      view.setUint16(at + 2, 8, true);
      view.setUint32(at + 4, value % 2 ** 32, true);
      view.setUint32(at + 8, Math.floor(value / 2 ** 32), true);
    });
  });
}
