import type { GuestMemory } from "@northbridge/core/contracts";
import type { ChainStateV1, DescriptorChain } from "./descriptor-chain.ts";
import type { FeatureSet } from "./feature-set.ts";

/** What a driver got wrong; the device needs a reset then. Counted by name. */
export type QueueFault =
  | "ringOutsideMemory"
  | "ringMisaligned"
  | "availJump"
  | "headOutOfRange"
  | "headInFlight"
  | "nextOutOfRange"
  | "chainTooLong"
  | "bufferOutsideMemory"
  | "readableAfterWritable"
  | "indirectNotNegotiated"
  | "indirectNested"
  | "indirectWithNext"
  | "indirectLength"
  | "indirectOutsideMemory";

/** Where a driver put a queue. */
export interface QueueAddresses {
  /** Descriptor area: the table, or the packed ring. */
  readonly desc: number;
  /** Driver area: the available ring, or the driver's event suppression. */
  readonly driver: number;
  /** Device area: the used ring, or the device's event suppression. */
  readonly device: number;
}

/** Hears what a queue does with its requests, to write down what shall outlive it. */
export interface QueueJournal {
  /** The device has the request. Not told of one that comes again. */
  taken(request: Pick<DescriptorChain, "id" | "slots">): void;
  /** It goes into the used ring next. */
  using(request: Pick<DescriptorChain, "id" | "slots">): void;
  /** It is there: of a packed ring the driver sees it. */
  used(request: Pick<DescriptorChain, "id" | "slots">): void;
  /** The driver sees all that were used. */
  shown(): void;
}

/** What a queue is made of. */
export interface QueueSetup {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly features: FeatureSet;
  readonly memory: GuestMemory;
  /** A request has been taken. */
  readonly request: () => void;
  /** The driver wants to hear of used buffers. */
  readonly interrupt: () => void;
  readonly fail: (fault: QueueFault) => void;
  readonly journal?: QueueJournal;
}

/** Saved form of a queue's device side; what the rings hold is in guest memory. */
export interface QueueStateV1 {
  /** Split: indices. Packed: ring positions with the wrap counter as bit 15. */
  readonly lastAvail: number;
  readonly lastUsed: number;
  /** Taken and not given back, oldest first. */
  readonly inFlight: readonly ChainStateV1[];
}

/**
 * The device's side of a virtqueue. A fault of the driver empties it for good: `pop` finds nothing, `push` does
 * nothing, and `fail` has been told why.
 */
export interface VirtQueue {
  readonly size: number;
  /** Until `close` or a fault: afterwards requests of before are nobody's, their memory included. */
  readonly isOpen: boolean;
  /** Takes the next request. It is the device's until `push`. */
  pop(): DescriptorChain | undefined;
  /** Gives the request back: `written` bytes of its writable part were written, from the first on. Visible at `flush`. */
  push(chain: DescriptorChain, written: number): void;
  /** Puts a request back: `pop` gives it again, before those that were taken or will be after it. */
  unpop(chain: DescriptorChain): void;
  /** Shows the driver what was pushed and interrupts it if it asked for that. */
  flush(): void;
  /** The driver need not notify: the device looks by itself. */
  disableNotifications(): void;
  /** False where requests came in meanwhile: look again, there may be no notification for them. */
  enableNotifications(): boolean;
  /** Nothing works any more: the driver has reset the queue. */
  close(): void;
  save(): QueueStateV1;
  /** Of a new queue. Requests that were in flight come out of `pop` again, first. */
  restore(state: QueueStateV1): void;
}

/** Serves a queue until it is empty. The device may keep chains and push them later. */
export function serve(queue: VirtQueue, handle: (chain: DescriptorChain) => void): void {
  do {
    queue.disableNotifications();
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) handle(chain);
  } while (!queue.enableNotifications());
  queue.flush();
}
