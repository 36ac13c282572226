import { EventFd, FdWatch } from "@northbridge/linux";
import { type DescriptorChain, SplitDriverQueue, type VirtQueue } from "@northbridge/sdk/virtio";
import { RING_SIZE, type RingSpace } from "./ring-region.ts";
import type { RingPlace } from "./ring-server.ts";

/**
 * A ring between a machine's own queue and a back end in another process. Requests go over without their data, which
 * stays where the guest has it; what comes back is reported to the machine before the guest sees it.
 */
export class ShadowRing {
  readonly kick: EventFd = new EventFd();
  readonly call: EventFd = new EventFd();
  /** Requests the back end has, by head, in the order in which it got them. */
  readonly #underWay = new Map<number, DescriptorChain>();
  readonly #ring: SplitDriverQueue;
  readonly #userAddress: number;
  readonly #watch: FdWatch;

  /** @param called the back end may have used something */
  constructor({ memory, userAddress }: RingSpace, eventIdx: boolean, called: () => void) {
    this.#userAddress = userAddress;
    this.#ring = new SplitDriverQueue({ memory, gpa: 0, size: RING_SIZE, eventIdx });
    this.#watch = new FdWatch(this.call.fd, () => {
      this.call.drain();
      called();
    });
  }

  /** Where the back end finds the ring. */
  place(base: number): RingPlace {
    const { desc, driver, device } = this.#ring.addresses;
    const at = this.#userAddress;
    return { size: RING_SIZE, base, desc: at + desc, avail: at + driver, used: at + device };
  }

  /** Hands a request over. False where there is no room for it now. */
  add(chain: DescriptorChain): boolean {
    const { readable, writable } = chain.save();
    const segments = (all: readonly (readonly [number, number])[]): { gpa: number; length: number }[] =>
      all.map(([gpa, length]) => ({ gpa, length }));
    const head = this.#ring.add(segments(readable), segments(writable));
    if (head === undefined) return false;
    this.#underWay.set(head, chain);
    return true;
  }

  /** Lets the back end know of what was added. */
  notify(): void {
    if (this.#ring.needsNotification()) this.kick.signal();
  }

  /** Gives the guest what the back end has used. False where that was never its to use. */
  collect(queue: VirtQueue | undefined): boolean {
    let used;
    try {
      used = this.#ring.collect();
    } catch {
      return false;
    }
    for (const { id, written } of used) {
      const chain = this.#underWay.get(id);
      this.#underWay.delete(id);
      if (chain === undefined || queue === undefined) continue;
      chain.written(0, chain.writableBytes);
      queue.push(chain, Math.min(written, chain.writableBytes));
    }
    queue?.flush();
    return true;
  }

  /** What a back end that is gone had not used, oldest first. */
  takeBack(): readonly DescriptorChain[] {
    const chains = [...this.#underWay.values()];
    this.#underWay.clear();
    return chains;
  }

  close(): void {
    this.#watch.close();
    this.kick.close();
    this.call.close();
  }
}
