import type { GuestMemory } from "@northbridge/core/contracts";
import type { QueueAddresses } from "./virt-queue.ts";

/** A buffer a driver offers. */
export interface Segment {
  readonly gpa: number;
  readonly length: number;
}

/** What the device gave back. */
export interface UsedBuffer {
  /** What `add` returned. */
  readonly id: number;
  /** Bytes the device says it wrote. */
  readonly written: number;
}

/** Memory a driver's rings are in. */
export type DriverMemory = Pick<GuestMemory, "readU16" | "readU32" | "write" | "writeU16" | "writeU32">;

/** How a driver lays out a queue. */
export interface DriverQueueOptions {
  readonly memory: DriverMemory;
  /** Where the rings go; `byteLength` says how much they take. A multiple of 16. */
  readonly gpa: number;
  readonly size: number;
  readonly eventIdx?: boolean;
}

/**
 * A driver's side of a virtqueue. Requests are the device's to see as soon as they are added. The device may be on
 * another thread, or in another process.
 */
export interface DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  /** Slots no request takes. */
  readonly free: number;
  /**
   * Offers a request. Undefined where there is no room for it.
   * @param indirectGpa where to build an indirect table; without, the ring's own descriptors are used
   */
  add(readable: readonly Segment[], writable: readonly Segment[], indirectGpa?: number): number | undefined;
  /** Whether the device wants to hear of what was added since the last call (§2.7.13.4, §2.8.21.3). */
  needsNotification(): boolean;
  /**
   * What the device has used since the last call. Nothing it used before this returns goes without an interrupt.
   * Throws where the device uses what it was not given.
   */
  collect(): UsedBuffer[];
  /**
   * Asks for an interrupt with the next used buffer, or for none. False where the device has used some that it did not
   * interrupt for: collect them.
   */
  wantInterrupts(wanted: boolean): boolean;
}
