import type { RegisterSpecs } from "../registers/declaration.ts";
import { describeAccess } from "../registers/describe-access.ts";
import { RegisterMap } from "../registers/register-map.ts";
import { asciiJson, hexOf } from "./plain-data.ts";
import type { Trace, TraceRecord } from "./trace-record.ts";

/** What turns numbers of a trace into names. */
export interface TraceNames {
  /** By number of the region. */
  readonly regions: ReadonlyMap<number, string>;
  readonly gsis: ReadonlyMap<number, number>;
  /** Registers of a region, by its name; of the device's first where the name is empty. */
  readonly registers: ReadonlyMap<string, RegisterMap<RegisterSpecs>>;
}

/** The names that a trace itself has. */
export function namesOf(trace: Trace, registers?: TraceRegisters): TraceNames {
  const regions = new Map<number, string>();
  const gsis = new Map<number, number>();
  for (const record of trace.records) {
    if (record.kind === "map") regions.set(record.region, record.name);
    if (record.kind === "line") gsis.set(record.line, record.gsi);
  }
  const maps =
    registers === undefined ? {} : registers instanceof RegisterMap ? { "": registers } : registers;
  return { regions, gsis, registers: new Map(Object.entries(maps)) };
}

/** One register map, or several by the names of their regions. */
export type TraceRegisters =
  | RegisterMap<RegisterSpecs>
  | Readonly<Record<string, RegisterMap<RegisterSpecs>>>;

const hex = (value: number): string => `0x${value.toString(16)}`;
const ms = (ns: number): string => `${(ns / 1e6).toFixed(6)} ms`;

/** One line, with register and field names. */
export function describeRecord(record: TraceRecord, names: TraceNames): string {
  const gsi = (line: number): string => `irq ${names.gsis.get(line) ?? `line ${line}`}`;
  switch (record.kind) {
    case "read":
    case "write": {
      const { kind, region, offset, width, value } = record;
      const name = names.regions.get(region) ?? `region ${region}`;
      const map = names.registers.get(name) ?? (region === 0 ? names.registers.get("") : undefined);
      return map === undefined
        ? `${kind} ${name}+${hex(offset)} = ${hex(value)} (${width} bytes)`
        : describeAccess(map, kind, offset, width, value);
    }
    case "configRead":
    case "configWrite":
      return `config ${record.kind === "configRead" ? "read" : "write"} ${hex(record.offset)} = ${hex(record.value)} (${record.width} bytes)`;
    case "timer":
      return `timer ${record.timer} fires`;
    case "lifecycle":
      return record.state === null ? record.call : `${record.call} ${asciiJson(record.state)}`;
    case "callback":
      return `callback ${record.callback} ${short(record.args)}`;
    case "settled":
      return `promise ${record.call} settles: ${short(record.outcome)}`;
    case "irq":
      return `${gsi(record.line)} ${record.level ? "up" : "down"}`;
    case "adopt":
      return `${gsi(record.line)} is ${record.level ? "up" : "down"}`;
    case "msi":
      return `msi ${hex(record.address)} = ${hex(record.data)}`;
    case "dma":
      return `dma ${hex(record.gpa)} ${record.length} bytes: ${bytes(record.bytes, record.length)}`;
    case "arm":
      return `timer ${record.timer} armed for ${ms(record.deadlineNs)}`;
    case "disarm":
      return `timer ${record.timer} disarmed`;
    case "map":
      return `map ${record.name} at ${record.space} ${hex(record.base)} +${hex(record.length)}`;
    case "unmap":
      return `unmap ${names.regions.get(record.region) ?? record.region}`;
    case "line":
      return `line into irq ${record.gsi}`;
    case "power":
      return `power ${record.request} ${record.detail}`.trimEnd();
    case "call":
      return `${record.service}.${record.method}${record.args === null ? "" : short(record.args)}${record.outcome === undefined ? "" : ` → ${short(record.outcome)}`}`;
    case "now":
      return `now ${ms(record.ns)}`;
    case "epoch":
      return `epoch ${record.ms}`;
    case "memory":
      return `memory ${hex(record.gpa)} holds ${bytes(record.bytes, record.bytes.length)}`;
    case "end":
      return record.error === undefined ? "end" : `throws: ${record.error}`;
  }
}

function bytes(shown: Uint8Array, length: number): string {
  const MOST = 16;
  return `${hexOf(shown.subarray(0, MOST))}${length > MOST ? "…" : ""}`;
}

function short(value: unknown): string {
  const text = asciiJson(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** The whole trace, one line a record; what a device does inside of an entry is indented. */
export function describeTrace(trace: Trace, registers?: TraceRegisters): readonly string[] {
  const names = namesOf(trace, registers);
  const lines: string[] = [];
  let depth = 0;
  for (const record of trace.records) {
    if (record.kind === "end") {
      depth--;
      if (record.error !== undefined) lines.push(`${"  ".repeat(depth + 1)}${describeRecord(record, names)}`);
      continue;
    }
    lines.push(`${"  ".repeat(depth)}${describeRecord(record, names)}`);
    if (opens(record)) depth++;
  }
  return lines;
}

/** An `end` follows. */
export const opens = ({ kind }: TraceRecord): boolean =>
  kind === "read" ||
  kind === "write" ||
  kind === "configRead" ||
  kind === "configWrite" ||
  kind === "timer" ||
  kind === "callback";
