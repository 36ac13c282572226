import type { IoWidth } from "@northbridge/core/contracts";

/** Where a region is mapped. */
export type TraceSpace = "mmio" | "ports";

/** What a machine asks of a device as a whole. */
export type LifecycleCall =
  | "setUp"
  | "reset"
  | "pause"
  | "resume"
  | "save"
  | "restore"
  /** The machine ends: the state is the number of what the device registered with `onClose`. */
  | "close"
  /** What a PCI root asks of one function: the state is its number, and what it restores. */
  | "functionReset"
  | "functionRestore";

/** Something that happens to the device. What it does meanwhile follows, up to the matching `end`. */
export type EntryRecord =
  | {
      readonly kind: "read" | "write";
      readonly region: number;
      readonly offset: number;
      readonly width: IoWidth;
      /** Of a read: what the device answered. */
      value: number;
    }
  | {
      readonly kind: "configRead" | "configWrite";
      /** In order of attachment to the PCI bus. */
      readonly fn: number;
      readonly offset: number;
      readonly width: IoWidth;
      value: number;
    }
  | { readonly kind: "timer"; readonly timer: number }
  /** Has no `end`: a device may go on after the call. Older traces have the clock's `epochMs` as the state of `resume`. */
  | { readonly kind: "lifecycle"; readonly call: LifecycleCall; readonly state: unknown }
  /** A service calls what the device gave it. */
  | { readonly kind: "callback"; readonly callback: number; readonly args: unknown; result: unknown }
  /** A service keeps a promise. Has no `end`. */
  | { readonly kind: "settled"; readonly call: number; readonly outcome: ServiceOutcome };

/** What a service call gave. */
export interface ServiceOutcome {
  readonly result?: unknown;
  /** Message of what was thrown, or why a promise was rejected. */
  readonly error?: string;
  /** By position among the byte arrays of the arguments: what the service filled in. */
  readonly filled?: Readonly<Record<number, string>>;
}

/** What a guest asks of its machine by way of a device. */
export type PowerRequest = "powerOff" | "reset" | "panic" | "pause";

/** What the device does that can be seen from outside. A replay must do the same. */
export type OutputRecord =
  | { readonly kind: "irq" | "adopt"; readonly line: number; readonly level: boolean }
  | { readonly kind: "msi"; readonly address: number; readonly data: number }
  /** Guest memory written. `digest` is of all bytes, `bytes` are the first few. */
  | {
      readonly kind: "dma";
      readonly gpa: number;
      readonly length: number;
      readonly digest: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "arm"; readonly timer: number; readonly deadlineNs: number }
  | { readonly kind: "disarm"; readonly timer: number }
  | {
      readonly kind: "map";
      readonly space: TraceSpace;
      /** Numbered in order of first mapping; a region mapped anew keeps its number. */
      readonly region: number;
      readonly name: string;
      readonly base: number;
      readonly length: number;
    }
  | { readonly kind: "unmap"; readonly region: number }
  | { readonly kind: "line"; readonly line: number; readonly gsi: number }
  | { readonly kind: "power"; readonly request: PowerRequest; readonly detail: string }
  | {
      readonly kind: "call";
      readonly service: string;
      readonly method: string;
      readonly args: unknown;
      /** Absent where the outcome is a promise: a `settled` record has it. */
      readonly outcome?: ServiceOutcome;
    };

/** What the device learns meanwhile. A replay gives it the same. */
export type InputRecord =
  | { readonly kind: "now"; readonly ns: number }
  /** The clock's `epochMs` where it is not the last one any more. */
  | { readonly kind: "epoch"; readonly ms: number }
  /** Guest memory that the device is about to read holds this. */
  | { readonly kind: "memory"; readonly gpa: number; readonly bytes: Uint8Array };

/** An entry is over. */
export interface EndRecord {
  readonly kind: "end";
  /** Message of what the device threw. */
  readonly error?: string;
}

/** One record of a trace. */
export type TraceRecord = EntryRecord | OutputRecord | InputRecord | EndRecord;

/** What a trace says of its device. */
export interface TraceHeader {
  readonly version: 1;
  readonly device: { readonly id: string; readonly plugin: string; readonly config: unknown };
  readonly clock: { readonly kind: "realtime" | "virtual"; readonly epochMs: number };
  readonly memory: readonly { readonly gpa: number; readonly length: number; readonly readOnly: boolean }[];
}

/** A recorded device. */
export interface Trace {
  readonly header: TraceHeader;
  readonly records: readonly TraceRecord[];
  /** The file. */
  readonly bytes: Uint8Array;
  /** By record: where in the file it ends. */
  readonly ends: readonly number[];
  /** The recording ended in the middle of a record or of an entry, as that of a machine that was killed does. */
  readonly isTruncated: boolean;
}

/** Operations as the file has them. */
export const Op = {
  READ: 0x01,
  WRITE: 0x02,
  CONFIG_READ: 0x03,
  CONFIG_WRITE: 0x04,
  TIMER: 0x05,
  LIFECYCLE: 0x06,
  CALLBACK: 0x07,
  SETTLED: 0x08,
  IRQ: 0x10,
  ADOPT: 0x11,
  MSI: 0x12,
  DMA: 0x13,
  ARM: 0x14,
  DISARM: 0x15,
  MAP: 0x16,
  UNMAP: 0x17,
  LINE: 0x18,
  POWER: 0x19,
  CALL: 0x1a,
  NOW: 0x20,
  NOW_ABSOLUTE: 0x21,
  MEMORY: 0x22,
  EPOCH: 0x23,
  END: 0x30,
  /** With an error. */
  THROWN: 0x31,
  /** Added to an entry's operation: its effects and an `END` follow. */
  OPEN: 0x80,
} as const;

/** Bytes of a DMA that a trace shows. */
export const DMA_SHOWN = 64;
export const MAGIC = "NBTRACE\n";

/** FNV-1a, 32 bits. */
export function digestOf(bytes: Uint8Array): number {
  let hash = 0x811c_9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x0100_0193);
  return hash >>> 0;
}
