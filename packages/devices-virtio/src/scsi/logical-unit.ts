import type { Sense } from "./scsi.ts";

/** Data of a command, in guest memory. */
export interface ScsiData {
  /** Bytes the driver has sent, and has room for. */
  readonly outLength: number;
  readonly inLength: number;
  /** Views of what the driver has sent. */
  out(offset: number, length: number): Uint8Array[];
  /** Views of room for data to the driver. */
  in(offset: number, length: number): Uint8Array[];
  /** Copies from what the driver has sent. */
  read(offset: number, into: Uint8Array): number;
}

/** A transfer that goes on: it has moved `length` bytes once the operation is done. */
export class Transfer {
  readonly operation: Promise<void>;
  readonly length: number;
  /** What a failure of the host means. */
  readonly failure: Sense;

  constructor(operation: Promise<void>, length: number, failure: Sense) {
    this.operation = operation;
    this.length = length;
    this.failure = failure;
  }
}

/** The command needs more data, or more room, than the driver gave. */
export const OVERRUN = "overrun";

/** How a command ends: with data for the driver, with sense data, or later. */
export type Answer = Uint8Array | Sense | Transfer | typeof OVERRUN;

/** Nothing to say but GOOD. */
export const GOOD: Uint8Array = new Uint8Array(0);

/** Saved form of a unit, version 1. */
export interface UnitStateV1 {
  /** Bytes of its medium, 0 without one. */
  readonly size: number;
  /** Unit attention that the next command hears of: additional sense code and qualifier. */
  readonly attention: readonly [asc: number, ascq: number] | null;
  readonly isLocked: boolean;
  readonly isTrayOpen: boolean;
  /** Media event that GET EVENT STATUS has not told yet (MMC-6 §6.6). */
  readonly mediaEvent: number;
  /** The medium is none of the config's: a person has put it in. */
  readonly wasInserted?: true;
}

/** One unit of a target: what it answers to commands. */
export interface LogicalUnit {
  /** What the next command hears of first. */
  attention: Sense | undefined;
  execute(cdb: Uint8Array, data: ScsiData): Answer;
  /** Power-on, or a reset of the unit. */
  reset(): void;
  /** Throws `RestoreError`. */
  restore(state: UnitStateV1): void;
  save(): UnitStateV1;
}
