import type { GuestMemory } from "@northbridge/core/contracts";
import type { DescriptorChain } from "./descriptor-chain.ts";
import { Feature } from "./spec.ts";
import { RamRanges } from "./ram-ranges.ts";
import { ringArea, type RingPlace } from "./ring-area.ts";
import type { QueueFault, QueueSetup } from "./virt-queue.ts";

/** One of the two layouts a virtqueue has in memory, from the device's side. Every field of the driver's is read once. */
export interface VirtqueueRing {
  /** As in `QueueStateV1`. */
  readonly lastAvail: number;
  readonly lastUsed: number;
  /** Whether the driver has made a request available that was not taken. */
  isAvailable(): boolean;
  /** Fills an empty chain with the next request, which is available. */
  take(chain: DescriptorChain): QueueFault | undefined;
  /** Gives a request back. */
  use(chain: DescriptorChain, written: number): void;
  /** Shows the driver what was used since the last call. Whether it wants an interrupt. */
  show(): boolean;
  disableNotifications(): void;
  /** False where requests are available. */
  enableNotifications(): boolean;
  /** @param slots descriptors of the requests in flight */
  restore(lastAvail: number, lastUsed: number, slots: number): QueueFault | undefined;
}

/** What both layouts need: the guest's memory, what was negotiated, and views of the areas. */
export class RingMemory {
  readonly memory: GuestMemory;
  readonly ram: RamRanges;
  readonly hasEventIdx: boolean;
  readonly hasIndirect: boolean;
  /** The first area that cannot be. */
  fault: QueueFault | undefined;

  constructor({ memory, features }: QueueSetup) {
    this.memory = memory;
    this.ram = new RamRanges(memory);
    this.hasEventIdx = features.has(Feature.EVENT_IDX);
    this.hasIndirect = features.has(Feature.INDIRECT_DESC);
  }

  /** The area's bytes; where it cannot be there, bytes that are nobody's. */
  area(place: RingPlace): DataView {
    const found = ringArea(this.memory, this.ram, place);
    if (typeof found !== "string") return found;
    this.fault ??= found;
    return new DataView(new ArrayBuffer(place.length));
  }

  /** Appends a buffer to a chain. */
  append(chain: DescriptorChain, gpa: number, length: number, writable: boolean): QueueFault | undefined {
    if (length === 0) return undefined;
    if (!writable && chain.writableBytes > 0) return "readableAfterWritable";
    if (!this.ram.contains(gpa, length, writable)) return "bufferOutsideMemory";
    chain.append(gpa, length, writable);
    return undefined;
  }
}
