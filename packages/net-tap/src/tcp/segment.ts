import { get16, get32 } from "../wire/bytes.ts";
import { Tcp, TcpFlag, TcpOption } from "../wire/spec.ts";

/** A parsed segment. One object is reused for all: nothing may keep it. */
export interface Segment {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  flags: number;
  window: number;
  /** Value of the maximum segment size option; 0 without it. */
  mss: number;
  /** Shift of the window scale option; −1 without it. */
  windowScale: number;
  sackPermitted: boolean;
  /** Edges of SACK blocks, left and right in turn (RFC 2018 §3). */
  readonly sack: number[];
  /** The timestamps option is there (RFC 7323 §3.2): its TSval and TSecr. */
  hasTimestamp: boolean;
  timestamp: number;
  echo: number;
  payload: Uint8Array;
}

export const emptyPayload: Uint8Array = new Uint8Array(0);

export function newSegment(): Segment {
  return {
    sourcePort: 0,
    destinationPort: 0,
    sequence: 0,
    acknowledgment: 0,
    flags: 0,
    window: 0,
    mss: 0,
    windowScale: -1,
    sackPermitted: false,
    sack: [],
    hasTimestamp: false,
    timestamp: 0,
    echo: 0,
    payload: emptyPayload,
  };
}

/** Parses the segment `bytes[from, to)` into `segment`. False where its data offset is not within it. */
export function parseSegment(bytes: Uint8Array, from: number, to: number, segment: Segment): boolean {
  if (to - from < Tcp.HEADER_LENGTH) return false;
  const headerLength = ((bytes[from + Tcp.DATA_OFFSET] ?? 0) >>> 4) * 4;
  if (headerLength < Tcp.HEADER_LENGTH || from + headerLength > to) return false;
  segment.sourcePort = get16(bytes, from + Tcp.SOURCE_PORT);
  segment.destinationPort = get16(bytes, from + Tcp.DESTINATION_PORT);
  segment.sequence = get32(bytes, from + Tcp.SEQUENCE);
  segment.acknowledgment = get32(bytes, from + Tcp.ACKNOWLEDGMENT);
  segment.flags = bytes[from + Tcp.FLAGS] ?? 0;
  segment.window = get16(bytes, from + Tcp.WINDOW);
  segment.mss = 0;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.sack.length = 0;
  segment.hasTimestamp = false;
  segment.timestamp = 0;
  segment.echo = 0;
  segment.payload = from + headerLength === to ? emptyPayload : bytes.subarray(from + headerLength, to);
  if (headerLength > Tcp.HEADER_LENGTH) {
    parseOptions(bytes, from + Tcp.HEADER_LENGTH, from + headerLength, segment);
  }
  return true;
}

function parseOptions(bytes: Uint8Array, from: number, to: number, segment: Segment): void {
  let at = from;
  while (at < to) {
    const kind = bytes[at] ?? 0;
    if (kind === TcpOption.END) return;
    if (kind === TcpOption.NO_OPERATION) {
      at += 1;
      continue;
    }
    const length = at + 1 < to ? (bytes[at + 1] ?? 0) : 0;
    // A length that goes nowhere or outside ends the list (RFC 9293 §3.1, MUST-7).
    if (length < 2 || at + length > to) return;
    if (kind === TcpOption.TIMESTAMPS && length === 10) {
      segment.hasTimestamp = true;
      segment.timestamp = get32(bytes, at + 2);
      segment.echo = get32(bytes, at + 6);
    } else if ((segment.flags & TcpFlag.SYN) !== 0) parseSynOption(bytes, at, kind, length, segment);
    else if (kind === TcpOption.SACK && length % 8 === 2) {
      for (let edge = at + 2; edge < at + length; edge += 4) segment.sack.push(get32(bytes, edge));
    }
    at += length;
  }
}

function parseSynOption(bytes: Uint8Array, at: number, kind: number, length: number, segment: Segment): void {
  if (kind === TcpOption.MAXIMUM_SEGMENT_SIZE && length === 4) segment.mss = get16(bytes, at + 2);
  // RFC 7323 §2.3: a shift above 14 is used as 14.
  else if (kind === TcpOption.WINDOW_SCALE && length === 3) {
    segment.windowScale = Math.min(14, bytes[at + 2] ?? 0);
  } else if (kind === TcpOption.SACK_PERMITTED && length === 2) segment.sackPermitted = true;
}
