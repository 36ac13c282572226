import type { GuestMemory } from "@northbridge/core/contracts";
import type { FeatureSet } from "../../virtio/feature-set.ts";
import type { QueueAddresses } from "../../virtio/virt-queue.ts";

/**
 * A virtio device as a driver reaches it, whatever lies between them: a transport in this process, or a vhost-user
 * socket behind which is anybody's device.
 */
export interface VirtioTarget {
  /** Memory that the device may use, for rings and buffers. */
  readonly memory: GuestMemory;
  readonly offered: FeatureSet;
  /** Largest size of each queue the driver may use. */
  readonly queueSizes: readonly number[];
  /** The first bytes of the configuration space; undefined where the transport has none to show. */
  config(length: number): Promise<Uint8Array | undefined>;
  /** Chooses features. False where the device refuses them. */
  negotiate(features: FeatureSet): Promise<boolean>;
  /** Tells the device of a queue. */
  enableQueue(index: number, size: number, addresses: QueueAddresses): Promise<void>;
  /** From here on the device may use the queues. */
  driverOk(): Promise<void>;
  /** Tells the device that there may be requests in a queue. */
  notify(index: number): void;
  /** Used buffer notifications of a queue so far. */
  interrupts(index: number): number;
  /** The device status; undefined where the transport has none. */
  status(): number | undefined;
  /** Gives the device time until the condition holds. False where that does not come to pass. */
  until(condition: () => boolean): Promise<boolean>;
  /** Gives the device the time it would need to do what it must not do. */
  linger(): Promise<void>;
  /** Resets the device: its driver starts again with `negotiate`. False where the transport cannot. */
  reset(): Promise<boolean>;
  close(): Promise<void>;
}

/** A request that a device of a kind always completes, and without harm. */
export interface ProbeRequest {
  readonly queue: number;
  /** What the device reads. */
  readonly readable: Uint8Array;
  /** Bytes of room for what it writes. */
  readonly writable: number;
  /** What is wrong with the answer; undefined where nothing is. */
  readonly check?: (answer: Uint8Array, written: number) => string | undefined;
}
