import { type IoWidth, NorthbridgeError } from "@northbridge/core/contracts";
import {
  DMA_SHOWN,
  type EntryRecord,
  type LifecycleCall,
  MAGIC,
  Op,
  type OutputRecord,
  type ServiceOutcome,
  type Trace,
  type TraceHeader,
  type TraceRecord,
} from "./trace-record.ts";

/** Reads what a recorder wrote. Throws `NB_CONFIG` where it is no trace; what a killed machine left is read as far as it goes. */
export function readTrace(file: Uint8Array): Trace {
  // A `Buffer` is a `Uint8Array` whose slices are no copies.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.length);
  const input = new Input(bytes);
  const magic = String.fromCharCode(...bytes.subarray(0, MAGIC.length));
  if (magic !== MAGIC) throw noTrace("it does not begin as one");
  input.skip(MAGIC.length);
  const header = readHeader(input);
  const records: TraceRecord[] = [];
  const ends: number[] = [];
  const open: EntryRecord[] = [];
  try {
    while (!input.isAtEnd) {
      try {
        readRecord(input, records, open);
      } catch (error) {
        if (error instanceof SyntaxError) throw noTrace(`record ${records.length} is damaged`);
        throw error;
      }
      while (ends.length < records.length) ends.push(input.at);
    }
  } catch (error) {
    if (!(error instanceof OutOfBytes)) throw error;
    return { header, records, bytes, ends, isTruncated: true };
  }
  return { header, records, bytes, ends, isTruncated: open.length > 0 };
}

function readHeader(input: Input): TraceHeader {
  try {
    const header = input.json() as TraceHeader;
    const { version } = header as { readonly version: unknown };
    if (version !== 1) throw noTrace(`its version is ${String(version)}, expected 1`);
    return header;
  } catch (error) {
    if (error instanceof NorthbridgeError) throw error;
    throw noTrace("its header is damaged");
  }
}

const noTrace = (reason: string): NorthbridgeError =>
  new NorthbridgeError("NB_CONFIG", `not a trace of a device: ${reason}`);

const ACCESS_KINDS = {
  [Op.READ]: "read",
  [Op.WRITE]: "write",
  [Op.CONFIG_READ]: "configRead",
  [Op.CONFIG_WRITE]: "configWrite",
} as const;
const POWER_KINDS = {
  [Op.MAP]: "map",
  [Op.UNMAP]: "unmap",
  [Op.LINE]: "line",
  [Op.POWER]: "power",
  [Op.CALL]: "call",
} as const;

function readRecord(input: Input, records: TraceRecord[], open: EntryRecord[]): void {
  const op = input.byte();
  const base = op & ~Op.OPEN;
  switch (base) {
    case Op.READ:
    case Op.WRITE:
    case Op.CONFIG_READ:
    case Op.CONFIG_WRITE: {
      const index = input.varint();
      const place = input.varint();
      const kind = ACCESS_KINDS[base];
      const rest = {
        offset: Math.floor(place / 4),
        width: WIDTHS[place % 4] ?? 4,
        value: input.varint(),
      };
      const entry: EntryRecord =
        kind === "read" || kind === "write" ? { kind, region: index, ...rest } : { kind, fn: index, ...rest };
      records.push(entry);
      if (op === base) records.push(END);
      else open.push(entry);
      return;
    }
    case Op.TIMER: {
      const entry: EntryRecord = { kind: "timer", timer: input.varint() };
      records.push(entry);
      open.push(entry);
      return;
    }
    case Op.CALLBACK: {
      const entry: EntryRecord = {
        kind: "callback",
        callback: input.varint(),
        args: input.json(),
        result: null,
      };
      records.push(entry);
      open.push(entry);
      return;
    }
    case Op.LIFECYCLE: {
      const [call, state] = input.json() as [LifecycleCall, unknown];
      records.push({ kind: "lifecycle", call, state });
      return;
    }
    case Op.SETTLED:
      records.push({ kind: "settled", call: input.varint(), outcome: input.json() as ServiceOutcome });
      return;
    case Op.IRQ:
    case Op.ADOPT: {
      const packed = input.varint();
      records.push({
        kind: base === Op.IRQ ? "irq" : "adopt",
        line: packed >>> 1,
        level: (packed & 1) !== 0,
      });
      return;
    }
    case Op.MSI:
      records.push({ kind: "msi", address: input.varint(), data: input.varint() });
      return;
    case Op.DMA: {
      const gpa = input.varint();
      const length = input.varint();
      const digest = input.varint();
      records.push({ kind: "dma", gpa, length, digest, bytes: input.bytes(Math.min(length, DMA_SHOWN)) });
      return;
    }
    case Op.ARM:
      records.push({ kind: "arm", timer: input.varint(), deadlineNs: input.float() });
      return;
    case Op.DISARM:
      records.push({ kind: "disarm", timer: input.varint() });
      return;
    case Op.MAP:
    case Op.UNMAP:
    case Op.LINE:
    case Op.POWER:
    case Op.CALL:
      records.push({ kind: POWER_KINDS[base], ...(input.json() as object) } as OutputRecord);
      return;
    case Op.NOW:
      records.push({ kind: "now", ns: input.passed(input.varint()) });
      return;
    case Op.NOW_ABSOLUTE:
      records.push({ kind: "now", ns: input.atTime(input.float()) });
      return;
    case Op.EPOCH:
      records.push({ kind: "epoch", ms: input.float() });
      return;
    case Op.MEMORY:
      records.push({ kind: "memory", gpa: input.varint(), bytes: input.bytes(input.varint()) });
      return;
    case Op.END: {
      const entry = open.pop();
      if (entry?.kind === "callback") entry.result = input.json();
      else {
        const value = input.varint();
        if (entry?.kind === "read" || entry?.kind === "configRead") entry.value = value;
      }
      records.push(END);
      return;
    }
    case Op.THROWN:
      open.pop();
      records.push({ kind: "end", error: String(input.json()) });
      return;
    default:
      throw noTrace(`record ${records.length} has the unknown operation 0x${op.toString(16)}`);
  }
}

const END: TraceRecord = { kind: "end" };
/** By width / 2. */
const WIDTHS: readonly IoWidth[] = [1, 2, 4];

class OutOfBytes extends Error {}

class Input {
  readonly #bytes: Uint8Array;
  #at = 0;
  #ns = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get at(): number {
    return this.#at;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  skip(length: number): void {
    this.#at += length;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new OutOfBytes();
    return byte;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let byte = this.byte(); ; byte = this.byte()) {
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  }

  float(): number {
    const bytes = this.bytes(8);
    return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
  }

  bytes(length: number): Uint8Array {
    const bytes = this.#bytes.slice(this.#at, this.#at + length);
    if (bytes.length < length) throw new OutOfBytes();
    this.#at += length;
    return bytes;
  }

  json(): unknown {
    const bytes = this.bytes(this.varint());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return JSON.parse(text) as unknown;
  }

  passed(ns: number): number {
    return (this.#ns += ns);
  }

  atTime(ns: number): number {
    return (this.#ns = ns);
  }
}
