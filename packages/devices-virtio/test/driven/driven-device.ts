import type { BlockBackend } from "@northbridge/sdk";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import fc from "fast-check";

/** The host's ends of a device, and devices on them. */
export interface DrivenHost {
  /** A device as it is made. Another one takes the ends over, as after a restore. */
  device(): VirtioDevice;
  /** Something happens at the other end, or to the device. */
  act?(choice: number): void;
}

export type Shape = readonly [readable: readonly number[], writable: readonly number[]];

/** A device for property tests: how to make it, what requests to it look like, and what happens at its other end. */
export interface DrivenDevice {
  readonly name: string;
  readonly host: () => DrivenHost;
  /** First bytes of requests, biased to what the device knows. */
  readonly head: fc.Arbitrary<readonly number[]>;
  /** Lengths of buffers, right ones and wrong ones. */
  readonly lengths: readonly number[];
  /** Lengths of the readable and of the writable buffers of a request as it should be. */
  readonly shapes: readonly Shape[];
  /** Memory that such a request hands over beside its buffers. @defaultValue none */
  readonly pagesIn?: (head: readonly number[]) => readonly number[];
}

export const u16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
export const u32 = (value: number): number[] => [...u16(value & 0xffff), ...u16(value >>> 16)];
export const u64 = (value: number): number[] => [...u32(value >>> 0), ...u32(Math.floor(value / 2 ** 32))];

/** A disk without memory: reads change nothing, so that two of them are alike. Its requests fail while `error` says so. */
export class StillDisk implements BlockBackend {
  readonly size = 81_920;
  readonly blockSize = 512;
  readonly readOnly: boolean;
  error: Error | undefined;

  constructor(readOnly = false) {
    this.readOnly = readOnly;
  }

  readonly #answer = (): Promise<void> =>
    this.error === undefined ? Promise.resolve() : Promise.reject(this.error);

  read: BlockBackend["read"] = this.#answer;
  write: BlockBackend["write"] = this.#answer;
  flush: BlockBackend["flush"] = this.#answer;
  discard: NonNullable<BlockBackend["discard"]> = this.#answer;
  writeZeroes: NonNullable<BlockBackend["writeZeroes"]> = this.#answer;
  close: BlockBackend["close"] = () => Promise.resolve();
}

/** Buffers of a request: as they should be, but for so many of a hundred. */
export const buffersOf = ({ lengths, shapes }: DrivenDevice, wrong: number): fc.Arbitrary<Shape> => {
  const some = fc.array(fc.constantFrom(...lengths), { maxLength: 3 });
  return fc.oneof(
    { weight: 100 - wrong, arbitrary: fc.constantFrom(...shapes) },
    { weight: wrong, arbitrary: fc.tuple(some, some) },
  );
};
