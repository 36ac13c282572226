import type { IoWidth } from "@northbridge/core/contracts";
import { asciiJson } from "./plain-data.ts";
import {
  digestOf,
  DMA_SHOWN,
  type LifecycleCall,
  MAGIC,
  Op,
  type OutputRecord,
  type ServiceOutcome,
  type TraceHeader,
} from "./trace-record.ts";

/** Room that every record but those with bytes or text fits in. */
const MOST_FIXED = 64;
const CHUNK = 64 * 1024;

/**
 * Writes a trace as bytes. An entry during which the device did nothing is one record of five or six bytes; what is
 * written per access allocates nothing.
 */
export class TraceWriter {
  readonly #sink: (bytes: Uint8Array) => void;
  #buffer = new Uint8Array(CHUNK);
  #at = 0;
  #lastNs = 0;
  /** The entry that has begun and done nothing yet. */
  #pendingOp = 0;
  #pendingIndex = 0;
  #pendingOffset = 0;
  #pendingValue = 0;

  /** @param sink takes what is written, about 64 KiB at a time; the bytes are its own */
  constructor(sink: (bytes: Uint8Array) => void) {
    this.#sink = sink;
  }

  header(header: TraceHeader): void {
    for (const letter of MAGIC) this.#byte(letter.charCodeAt(0));
    this.#json(header);
  }

  /** @param op of {@link Op}; an entry is open until `endAccess` or `thrown` */
  beginAccess(op: number, index: number, offset: number, width: IoWidth, value: number): void {
    this.#flushPending();
    this.#pendingOp = op;
    this.#pendingIndex = index;
    this.#pendingOffset = offset * 4 + (width >> 1);
    this.#pendingValue = value;
  }

  /** @param value of a read: what the device answered; of a write it is not looked at */
  endAccess(value: number): void {
    if (this.#pendingOp !== 0) {
      const op = this.#pendingOp;
      this.#pendingOp = 0;
      this.#access(op, op === Op.READ || op === Op.CONFIG_READ ? value : this.#pendingValue);
      return;
    }
    this.#fixed();
    this.#byte(Op.END);
    this.#varint(value);
  }

  beginTimer(timer: number): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.TIMER | Op.OPEN);
    this.#varint(timer);
  }

  beginCallback(callback: number, args: unknown): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.CALLBACK | Op.OPEN);
    this.#varint(callback);
    this.#json(args);
  }

  endCallback(result: unknown): void {
    this.#fixed();
    this.#byte(Op.END);
    this.#json(result);
  }

  thrown(error: unknown): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.THROWN);
    this.#json(error instanceof Error ? error.message : String(error));
  }

  lifecycle(call: LifecycleCall, state?: unknown): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.LIFECYCLE);
    this.#json([call, state ?? null]);
  }

  settled(call: number, outcome: ServiceOutcome): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.SETTLED);
    this.#varint(call);
    this.#json(outcome);
  }

  line(isAdopted: boolean, line: number, level: boolean): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(isAdopted ? Op.ADOPT : Op.IRQ);
    this.#varint(line * 2 + (level ? 1 : 0));
  }

  msi(address: number, data: number): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.MSI);
    this.#varint(address);
    this.#varint(data);
  }

  dma(gpa: number, bytes: Uint8Array): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.DMA);
    this.#varint(gpa);
    this.#varint(bytes.length);
    this.#varint(digestOf(bytes));
    this.#bytes(bytes.subarray(0, DMA_SHOWN));
  }

  memory(gpa: number, bytes: Uint8Array): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.MEMORY);
    this.#varint(gpa);
    this.#varint(bytes.length);
    this.#bytes(bytes);
  }

  arm(timer: number, deadlineNs: number): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.ARM);
    this.#varint(timer);
    this.#float(deadlineNs);
  }

  disarm(timer: number): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.DISARM);
    this.#varint(timer);
  }

  now(ns: number): void {
    this.#flushPending();
    this.#fixed();
    const passed = ns - this.#lastNs;
    if (passed >= 0 && Number.isSafeInteger(passed)) {
      this.#byte(Op.NOW);
      this.#varint(passed);
    } else {
      this.#byte(Op.NOW_ABSOLUTE);
      this.#float(ns);
    }
    this.#lastNs = ns;
  }

  epoch(ms: number): void {
    this.#flushPending();
    this.#fixed();
    this.#byte(Op.EPOCH);
    this.#float(ms);
  }

  /** Outputs that are rare enough to be written as text. */
  rare(record: Extract<OutputRecord, { kind: "map" | "unmap" | "line" | "power" | "call" }>): void {
    this.#flushPending();
    this.#fixed();
    const { kind, ...rest } = record;
    this.#byte(RARE[kind]);
    this.#json(rest);
  }

  /** Hands everything written so far to the sink. */
  flush(): void {
    if (this.#at === 0) return;
    this.#sink(this.#buffer.slice(0, this.#at));
    this.#at = 0;
  }

  #flushPending(): void {
    if (this.#pendingOp === 0) return;
    const op = this.#pendingOp;
    this.#pendingOp = 0;
    this.#access(op | Op.OPEN, this.#pendingValue);
  }

  /** The hot path: one load of buffer and position for the whole record. */
  #access(op: number, value: number): void {
    this.#fixed();
    const buffer = this.#buffer;
    let at = this.#at;
    buffer[at++] = op;
    at = putVarint(buffer, at, this.#pendingIndex);
    at = putVarint(buffer, at, this.#pendingOffset);
    this.#at = putVarint(buffer, at, value);
  }

  /** Room for one record of fixed size. */
  #fixed(): void {
    if (this.#at > CHUNK - MOST_FIXED) this.flush();
  }

  #byte(value: number): void {
    this.#buffer[this.#at++] = value;
  }

  #varint(value: number): void {
    this.#at = putVarint(this.#buffer, this.#at, value);
  }

  #float(value: number): void {
    new DataView(this.#buffer.buffer).setFloat64(this.#at, value, true);
    this.#at += 8;
  }

  #json(value: unknown): void {
    const text = asciiJson(value);
    this.#varint(text.length);
    this.#bytes(Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
  }

  #bytes(bytes: Uint8Array): void {
    if (bytes.length > CHUNK - MOST_FIXED - this.#at) {
      this.flush();
      if (bytes.length > CHUNK - MOST_FIXED) {
        this.#sink(bytes.slice());
        return;
      }
    }
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }
}

const RARE = { map: Op.MAP, unmap: Op.UNMAP, line: Op.LINE, power: Op.POWER, call: Op.CALL } as const;

/** Seven bits a byte, low ones first. @returns where the next byte goes */
function putVarint(buffer: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest > 0x7fff_ffff) {
    buffer[at++] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
  }
  while (rest > 127) {
    buffer[at++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}
