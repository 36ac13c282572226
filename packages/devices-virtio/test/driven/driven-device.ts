import type { BlockBackend } from "@northbridge/sdk";
import type { DrivenHost as AnyDrivenHost, DrivenVirtioDevice } from "@northbridge/sdk/fuzz";
import { HeldAnswers } from "./held-answers.ts";

/** As a hostile driver knows it; what is under way can be counted. */
export interface DrivenHost extends AnyDrivenHost {
  readonly answers?: HeldAnswers;
}

/** Where requests of a driver are: with the host, with a device that waits for something, in the ring. */
export type Whereabouts = "inHost" | "kept" | "waiting";

/** A device for property tests. */
export interface DrivenDevice extends DrivenVirtioDevice {
  readonly host: () => DrivenHost;
  /** Where requests can be when the machine is to be paused. */
  readonly underWay: readonly Whereabouts[];
}

export const u16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
export const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)];
export const u64 = (value: number): number[] => [...u32(value >>> 0), ...u32(Math.floor(value / 2 ** 32))];

/**
 * A disk without memory: what is read is where it is read from, so that two of them are alike. Its requests fail while
 * `error` says so.
 */
export class StillDisk implements BlockBackend {
  readonly size = 81_920;
  readonly blockSize = 512;
  readonly readOnly: boolean;
  readonly answers: HeldAnswers;
  error: Error | undefined;

  constructor(answers: HeldAnswers = new HeldAnswers(), readOnly = false) {
    this.answers = answers;
    this.readOnly = readOnly;
  }

  readonly #answer = (): Promise<void> => this.#operation();

  /** One that fails has read what it should, too: the driver may not rely on it. */
  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#operation(() => {
      for (const part of into) part.fill(1 + (offset >>> 9));
    });
  }

  write: BlockBackend["write"] = this.#answer;
  flush: BlockBackend["flush"] = this.#answer;
  discard: NonNullable<BlockBackend["discard"]> = this.#answer;
  writeZeroes: NonNullable<BlockBackend["writeZeroes"]> = this.#answer;
  close: BlockBackend["close"] = () => Promise.resolve();

  #operation(carryOut?: () => void): Promise<void> {
    return this.answers.operation(() => {
      carryOut?.();
      if (this.error !== undefined) throw this.error;
    });
  }
}
