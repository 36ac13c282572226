import { type ChainStateV1, DescriptorChain } from "./descriptor-chain.ts";
import type { RingMemory } from "./virtqueue-ring.ts";

/** The chains of one queue: those in flight, by ID, oldest first, and objects to use again. */
export class ChainPool {
  readonly #memory: RingMemory;
  readonly #free: DescriptorChain[] = [];
  readonly #inFlight = new Map<number, DescriptorChain>();
  /** Taken before and to be taken again, oldest first: restored, or put back. */
  readonly #again: DescriptorChain[] = [];
  /** All in flight, oldest first, where the order matters. */
  readonly #order: DescriptorChain[] | undefined;
  #taken = 0;

  constructor(memory: RingMemory, options: { readonly inOrder: boolean }) {
    this.#memory = memory;
    this.#order = options.inOrder ? [] : undefined;
  }

  /** Of a queue that uses requests in order. */
  get oldest(): DescriptorChain | undefined {
    return this.#order?.[0];
  }

  isInFlight(id: number): boolean {
    return this.#inFlight.has(id);
  }

  /** Whether the device has this chain, and has not said that it is done with it. */
  isHeld(chain: DescriptorChain): boolean {
    return this.#inFlight.get(chain.id) === chain && chain.done < 0;
  }

  /** An empty chain, not yet in flight. */
  begin(): DescriptorChain {
    const chain = this.#free.pop() ?? new DescriptorChain(this.#memory.memory, this.#memory.ram);
    chain.begin();
    return chain;
  }

  /** The chain is in flight under its ID. */
  took(chain: DescriptorChain): void {
    chain.age = this.#taken++;
    this.#inFlight.set(chain.id, chain);
    this.#order?.push(chain);
  }

  takeAgain(): DescriptorChain | undefined {
    return this.#again.length > 0 ? this.#again.shift() : undefined;
  }

  putBack(chain: DescriptorChain): void {
    if (!this.isHeld(chain)) return;
    const younger = this.#again.findIndex(({ age }) => age > chain.age);
    this.#again.splice(younger < 0 ? this.#again.length : younger, 0, chain);
  }

  /** Ends the flight of a chain that is in flight: the oldest one, where the order matters. */
  give(chain: DescriptorChain): void {
    this.#inFlight.delete(chain.id);
    this.#order?.shift();
    this.#free.push(chain);
  }

  save(): ChainStateV1[] {
    return Array.from(this.#inFlight.values(), (chain) => chain.save());
  }

  /** False where a segment is not memory or an ID comes twice. */
  restore(states: readonly ChainStateV1[]): boolean {
    for (const { id, slots, readable, writable, done = -1 } of states) {
      if (this.isInFlight(id)) return false;
      const chain = this.begin();
      chain.id = id;
      chain.slots = slots;
      chain.done = done;
      for (const [gpa, length] of readable) {
        if (!this.#memory.ram.contains(gpa, length, false)) return false;
        chain.append(gpa, length, false);
      }
      for (const [gpa, length] of writable) {
        if (!this.#memory.ram.contains(gpa, length, true)) return false;
        chain.append(gpa, length, true);
      }
      this.took(chain);
      if (done < 0) this.#again.push(chain);
    }
    return true;
  }
}
