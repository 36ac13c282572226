import type { GuestMemory } from "@northbridge/core/contracts";
import fc from "fast-check";
import type { VirtioDevice } from "../../virtio/virtio-device.ts";

/** Operations at a device's other end that take time. */
export interface OperationsUnderWay {
  /** Ends all of them, and whatever comes of that, in an order of `choice`'s. */
  answerAll(choice: number): Promise<void>;
}

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
  readonly answers?: OperationsUnderWay;
}

/** Lengths of the buffers of a request, and the queue it belongs in. @defaultValue any */
export type RequestShape = readonly [
  readable: readonly number[],
  writable: readonly number[],
  queue?: number | undefined,
];

/** A virtio device for hostile drivers: how to make it, what requests to it look like, and what happens at its other end. */
export interface DrivenVirtioDevice {
  readonly name: string;
  /** @param memory the guest's, for devices that are told of it when they are made */
  readonly host: (memory: GuestMemory) => DrivenHost | Promise<DrivenHost>;
  /** First bytes of requests, biased to what the device knows. */
  readonly head: fc.Arbitrary<readonly number[]>;
  /** Lengths of buffers, right ones and wrong ones. */
  readonly lengths: readonly number[];
  /** Requests as they should be. */
  readonly shapes: readonly RequestShape[];
  /** Memory that such a request hands over beside its buffers. @defaultValue none */
  readonly pagesIn?: (head: readonly number[]) => readonly number[];
}

/** Buffers of a request: as they should be, but for so many of a hundred. */
export const buffersOf = (
  { lengths, shapes }: Pick<DrivenVirtioDevice, "lengths" | "shapes">,
  wrong: number,
): fc.Arbitrary<RequestShape> => {
  const some = fc.array(fc.constantFrom(...lengths), { maxLength: 3 });
  return fc.oneof(
    { weight: 100 - wrong, arbitrary: fc.constantFrom(...shapes) },
    { weight: wrong, arbitrary: fc.tuple(some, some) },
  );
};
