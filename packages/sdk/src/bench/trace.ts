import type { IoHandler, IoWidth, UntrustedHandler } from "@northbridge/core/contracts";

/** One thing that crossed the device's edge. `register` is the offset in its region's terms. */
export type TraceEvent =
  | {
      readonly kind: "read" | "write";
      readonly region: string;
      readonly offset: number;
      readonly width: IoWidth;
      readonly value: number;
    }
  | { readonly kind: "irq"; readonly gsi: number; readonly level: boolean }
  | { readonly kind: "msi"; readonly address: number; readonly data: number }
  /** The device wrote guest memory. */
  | { readonly kind: "dma"; readonly gpa: number; readonly length: number };

/** Hears of events while somebody records; costs a comparison otherwise. */
export class TraceRecorder {
  #events: TraceEvent[] | undefined;

  get isRecording(): boolean {
    return this.#events !== undefined;
  }

  add(event: TraceEvent): void {
    this.#events?.push(event);
  }

  /** What happens while `when` runs. */
  during(when: () => void): readonly TraceEvent[] {
    const outer = this.#events;
    const events: TraceEvent[] = [];
    this.#events = events;
    try {
      when();
    } finally {
      this.#events = outer;
      outer?.push(...events);
    }
    return events;
  }
}

/** A handler whose accesses can be recorded. */
export class TracedHandler implements IoHandler {
  readonly #region: string;
  readonly #inner: UntrustedHandler;
  readonly #trace: TraceRecorder;

  constructor(region: string, inner: IoHandler, trace: TraceRecorder) {
    this.#region = region;
    this.#inner = inner;
    this.#trace = trace;
  }

  read(offset: number, width: IoWidth): number {
    // The bus that asked refuses what is no value.
    const value = this.#inner.read(offset, width) as number;
    if (this.#trace.isRecording)
      this.#trace.add({ kind: "read", region: this.#region, offset, width, value });
    return value;
  }

  write(offset: number, width: IoWidth, value: number): unknown {
    if (this.#trace.isRecording)
      this.#trace.add({ kind: "write", region: this.#region, offset, width, value });
    return this.#inner.write(offset, width, value);
  }
}
