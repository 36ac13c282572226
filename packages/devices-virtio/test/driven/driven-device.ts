import type { BlockBackend } from "@northbridge/sdk";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import fc from "fast-check";
import { HeldAnswers } from "./held-answers.ts";

/** The host's ends of a device, and devices on them. */
export interface DrivenHost {
  /** A device as it is made. Another one takes the ends over, as after a restore. */
  device(): VirtioDevice;
  /**
   * Something happens at the other end, or to the device.
   * @param isPaused the machine is: its clock stands still
   */
  act?(choice: number, isPaused?: boolean): void;
  /** Operations under way at the other end. @defaultValue it has none that take time */
  readonly answers?: HeldAnswers;
}

/** Lengths of the buffers of a request, and the queue it belongs in. @defaultValue any */
export type Shape = readonly [readable: readonly number[], writable: readonly number[], queue?: number];

/** Where requests of a driver are: with the host, with a device that waits for something, in the ring. */
export type Whereabouts = "inHost" | "kept" | "waiting";

/** A device for property tests: how to make it, what requests to it look like, and what happens at its other end. */
export interface DrivenDevice {
  readonly name: string;
  readonly host: () => DrivenHost;
  /** First bytes of requests, biased to what the device knows. */
  readonly head: fc.Arbitrary<readonly number[]>;
  /** Lengths of buffers, right ones and wrong ones. */
  readonly lengths: readonly number[];
  /** Requests as they should be. */
  readonly shapes: readonly Shape[];
  /** Where requests can be when the machine is to be paused. */
  readonly underWay: readonly Whereabouts[];
  /** Memory that such a request hands over beside its buffers. @defaultValue none */
  readonly pagesIn?: (head: readonly number[]) => readonly number[];
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

/** Buffers of a request: as they should be, but for so many of a hundred. */
export const buffersOf = ({ lengths, shapes }: DrivenDevice, wrong: number): fc.Arbitrary<Shape> => {
  const some = fc.array(fc.constantFrom(...lengths), { maxLength: 3 });
  return fc.oneof(
    { weight: 100 - wrong, arbitrary: fc.constantFrom(...shapes) },
    { weight: wrong, arbitrary: fc.tuple(some, some) },
  );
};
