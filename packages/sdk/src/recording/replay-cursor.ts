import { describeRecord, type TraceNames } from "./describe-trace.ts";
import type { InputRecord, OutputRecord, Trace, TraceRecord } from "./trace-record.ts";

/** Outputs whose order a replay judges. Regions and lines are known by name and number instead. */
export type JudgedOutput = Exclude<OutputRecord, { kind: "map" | "unmap" | "line" }>;

/** What a device learns when it looks at its clock. */
type Reading = Extract<InputRecord, { kind: "now" | "epoch" }>;

const isReading = (record: TraceRecord): record is Reading =>
  record.kind === "now" || record.kind === "epoch";

const UNJUDGED: ReadonlySet<TraceRecord["kind"]> = new Set([
  "now",
  "epoch",
  "memory",
  "map",
  "unmap",
  "line",
]);
const isUnjudged = (record: TraceRecord): boolean => UNJUDGED.has(record.kind);

/** Where a replayed device first did something else than the recorded one. */
export interface ReplayFailure {
  /** Of the record in which it did. */
  readonly at: number;
  readonly reason: string;
}

/** Goes through a trace beside the device that is replayed, and compares. */
export class ReplayCursor {
  readonly #records: readonly TraceRecord[];
  readonly #names: TraceNames;
  readonly #onInput: (record: InputRecord) => void;
  /** What comes behind the last record is not known: nothing is wrong there. */
  readonly #isTruncated: boolean;
  #at = 0;
  /** Those that were passed and the device has not looked at yet. */
  readonly #readings: Reading[] = [];
  #failure: ReplayFailure | undefined;

  constructor(trace: Trace, names: TraceNames, onInput: (record: InputRecord) => void) {
    this.#records = trace.records;
    this.#isTruncated = trace.isTruncated;
    this.#names = names;
    this.#onInput = onInput;
  }

  get at(): number {
    return this.#at;
  }

  get failure(): ReplayFailure | undefined {
    return this.#failure;
  }

  /** The record that comes now. */
  get record(): TraceRecord | undefined {
    return this.#records[this.#at];
  }

  advance(): void {
    this.#leaveReadings();
    this.#at++;
  }

  /** The first failure counts: a device may catch what it is told of it. */
  fail(reason: string): void {
    this.#failure ??= { at: this.#at, reason };
  }

  /** Gives the device the memory that it learns here, and passes over what is not judged. Readings wait until it looks. */
  takeInputs(): void {
    for (let record = this.record; record !== undefined; record = this.record) {
      if (!isUnjudged(record)) return;
      this.#pass(record);
    }
  }

  /** The device reads its clock: it goes on to the next reading of that sort, if one comes before anything that is judged. */
  takeReading(sort: Reading["kind"]): void {
    for (;;) {
      const at = this.#readings.findIndex(({ kind }) => kind === sort);
      const [reading] = at < 0 ? [] : this.#readings.splice(at, 1);
      if (reading !== undefined) {
        this.#onInput(reading);
        return;
      }
      const { record } = this;
      if (record === undefined || !isUnjudged(record)) return;
      this.#pass(record);
    }
  }

  /** What the device has not looked at by now it never saw, or is other code: time has passed all the same. */
  #leaveReadings(): void {
    for (const reading of this.#readings.splice(0)) this.#onInput(reading);
  }

  #pass(record: TraceRecord): void {
    if (record.kind === "memory") this.#onInput(record);
    else if (isReading(record)) this.#readings.push(record);
    this.#at++;
  }

  /** The device does this. Returns what the trace has in its place, where that is the same. */
  output<K extends JudgedOutput["kind"]>(
    found: Extract<JudgedOutput, { kind: K }>,
    isSame: (expected: Extract<JudgedOutput, { kind: K }>) => boolean,
  ): Extract<JudgedOutput, { kind: K }> | undefined {
    if (this.#failure !== undefined) return undefined;
    this.takeInputs();
    this.#leaveReadings();
    const record = this.record;
    if (record === undefined && this.#isTruncated) return undefined;
    const expected = record?.kind === found.kind ? (record as Extract<JudgedOutput, { kind: K }>) : undefined;
    if (expected !== undefined && isSame(expected)) {
      this.#at++;
      return expected;
    }
    this.fail(`expected ${this.#describe(record)}, found ${describeRecord(found, this.#names)}`);
    return undefined;
  }

  /** An entry is over: the device has done all it did then. */
  end(): TraceRecord | undefined {
    if (this.#failure !== undefined) return undefined;
    this.takeInputs();
    this.#leaveReadings();
    const record = this.record;
    if (record === undefined && this.#isTruncated) return undefined;
    if (record?.kind !== "end") {
      this.fail(`expected ${this.#describe(record)}, and the device did nothing more`);
      return undefined;
    }
    this.#at++;
    return record;
  }

  #describe(record: TraceRecord | undefined): string {
    if (record === undefined || (record.kind === "end" && record.error === undefined)) return "nothing more";
    return describeRecord(record, this.#names);
  }
}
