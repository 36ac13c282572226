import { expectLevel, type InterruptLine, type MsiTarget } from "@northbridge/core/contracts";
import type { TraceRecorder } from "./trace.ts";

/** A message-signalled interrupt that arrived. */
export interface MsiMessage {
  readonly address: number;
  readonly data: number;
}

/** Watches every interrupt of a device: levels and edges of lines, messages. Lines of one GSI are ORed. */
export class InterruptProbe implements MsiTarget {
  readonly messages: MsiMessage[] = [];
  readonly #trace: TraceRecorder;
  readonly #inputs = new Map<number, { high: number; edges: number }>();
  #toLose = 0;
  /** Interrupts that were lost on request. */
  lost = 0;

  constructor(trace: TraceRecorder) {
    this.#trace = trace;
  }

  /** Level of a GSI. */
  level(gsi: number): boolean {
    return (this.#inputs.get(gsi)?.high ?? 0) > 0;
  }

  /** Rising edges of a GSI so far. */
  edges(gsi: number): number {
    return this.#inputs.get(gsi)?.edges ?? 0;
  }

  /** Levels of all GSIs that the device has, by GSI. */
  levels(): Readonly<Record<number, boolean>> {
    return Object.fromEntries([...this.#inputs].map(([gsi, { high }]) => [gsi, high > 0]));
  }

  /** Rising edges and messages so far. */
  get count(): number {
    let edges = this.messages.length;
    for (const input of this.#inputs.values()) edges += input.edges;
    return edges;
  }

  /** The next `count` interrupts never arrive: a message is dropped, a line stays low until it is raised again. */
  loseNext(count = 1): void {
    this.#toLose += count;
  }

  signal(address: number, data: number): void {
    if (this.#isLost()) return;
    this.messages.push({ address, data });
    if (this.#trace.isRecording) this.#trace.add({ kind: "msi", address, data });
  }

  /** A line of one's own into `gsi`. */
  line(gsi: number): InterruptLine {
    const input = this.#inputs.get(gsi) ?? { high: 0, edges: 0 };
    this.#inputs.set(gsi, input);
    let wanted = false;
    let isHigh = false;
    return {
      set: (level) => {
        expectLevel(level);
        if (level === wanted) return;
        wanted = level;
        if (level ? this.#isLost() : !isHigh) return;
        isHigh = level;
        const was = input.high > 0;
        input.high += level ? 1 : -1;
        const is = input.high > 0;
        if (is === was) return;
        if (is) input.edges++;
        if (this.#trace.isRecording) this.#trace.add({ kind: "irq", gsi, level: is });
      },
      adopt: (level) => {
        expectLevel(level);
        wanted = level;
        if (level !== isHigh) input.high += level ? 1 : -1;
        isHigh = level;
      },
    };
  }

  #isLost(): boolean {
    if (this.#toLose === 0) return false;
    this.#toLose--;
    this.lost++;
    return true;
  }
}
