import type { GuestMemory } from "@northbridge/core/contracts";
import { type ChainStateV1, DescriptorChain } from "./descriptor-chain.ts";
import type { RamRanges } from "./ram-ranges.ts";

/** The chains of one queue, by ID: those in flight, and objects to use again. Never more than the queue's size. */
export class ChainPool {
  readonly #memory: GuestMemory;
  readonly #ram: RamRanges;
  readonly #free: DescriptorChain[] = [];
  readonly #inFlight: (DescriptorChain | undefined)[];
  /** Taken before and to be taken again: restored, or put back. */
  readonly #again: DescriptorChain[] = [];
  /** When each was taken, for the order of `save`. */
  readonly #order: Float64Array;
  #taken = 0;

  constructor(memory: GuestMemory, ram: RamRanges, size: number) {
    this.#memory = memory;
    this.#ram = ram;
    this.#inFlight = new Array<DescriptorChain | undefined>(size).fill(undefined);
    this.#order = new Float64Array(size);
  }

  isInFlight(id: number): boolean {
    return this.#inFlight[id] !== undefined;
  }

  /** An empty chain, in flight as `id`. */
  take(id: number): DescriptorChain {
    const chain = this.#free.pop() ?? new DescriptorChain(this.#memory, this.#ram);
    chain.begin(id);
    this.#inFlight[id] = chain;
    this.#order[id] = this.#taken++;
    return chain;
  }

  takeAgain(): DescriptorChain | undefined {
    return this.#again.length > 0 ? this.#again.shift() : undefined;
  }

  putBack(chain: DescriptorChain): void {
    if (this.#inFlight[chain.id] === chain) this.#again.unshift(chain);
  }

  /** Ends a chain's flight. False where it was not in flight. */
  give(chain: DescriptorChain): boolean {
    if (this.#inFlight[chain.id] !== chain) return false;
    this.#inFlight[chain.id] = undefined;
    this.#free.push(chain);
    return true;
  }

  save(): ChainStateV1[] {
    const chains = this.#inFlight.filter((chain) => chain !== undefined);
    chains.sort((a, b) => (this.#order[a.id] ?? 0) - (this.#order[b.id] ?? 0));
    return chains.map((chain) => chain.save());
  }

  /** False where a segment is not memory or an ID is not one. */
  restore(states: readonly ChainStateV1[]): boolean {
    for (const { id, slots, readable, writable } of states) {
      if (!(id < this.#inFlight.length) || this.isInFlight(id)) return false;
      const chain = this.take(id);
      chain.slots = slots;
      for (const [gpa, length] of readable) {
        if (!this.#ram.contains(gpa, length, false)) return false;
        chain.append(gpa, length, false);
      }
      for (const [gpa, length] of writable) {
        if (!this.#ram.contains(gpa, length, true)) return false;
        chain.append(gpa, length, true);
      }
      this.#again.push(chain);
    }
    return true;
  }
}
