import type { GuestMemory } from "@northbridge/core/contracts";
import { type ChainStateV1, DescriptorChain } from "./descriptor-chain.ts";
import type { RamRanges } from "./ram-ranges.ts";

/** The chains of one queue: those in flight, by ID, oldest first, and objects to use again. */
export class ChainPool {
  readonly #memory: GuestMemory;
  readonly #ram: RamRanges;
  readonly #free: DescriptorChain[] = [];
  readonly #inFlight = new Map<number, DescriptorChain>();
  /** Taken before and to be taken again: restored, or put back. */
  readonly #again: DescriptorChain[] = [];

  constructor(memory: GuestMemory, ram: RamRanges) {
    this.#memory = memory;
    this.#ram = ram;
  }

  isInFlight(id: number): boolean {
    return this.#inFlight.has(id);
  }

  /** An empty chain, not yet in flight. */
  begin(): DescriptorChain {
    const chain = this.#free.pop() ?? new DescriptorChain(this.#memory, this.#ram);
    chain.begin();
    return chain;
  }

  /** The chain is in flight under its ID. */
  took(chain: DescriptorChain): void {
    this.#inFlight.set(chain.id, chain);
  }

  takeAgain(): DescriptorChain | undefined {
    return this.#again.length > 0 ? this.#again.shift() : undefined;
  }

  putBack(chain: DescriptorChain): void {
    if (this.#inFlight.get(chain.id) === chain) this.#again.unshift(chain);
  }

  /** Ends a chain's flight. False where it was not in flight. */
  give(chain: DescriptorChain): boolean {
    if (this.#inFlight.get(chain.id) !== chain) return false;
    this.#inFlight.delete(chain.id);
    this.#free.push(chain);
    return true;
  }

  save(): ChainStateV1[] {
    return Array.from(this.#inFlight.values(), (chain) => chain.save());
  }

  /** False where a segment is not memory or an ID comes twice. */
  restore(states: readonly ChainStateV1[]): boolean {
    for (const { id, slots, readable, writable } of states) {
      if (this.isInFlight(id)) return false;
      const chain = this.begin();
      chain.id = id;
      chain.slots = slots;
      for (const [gpa, length] of readable) {
        if (!this.#ram.contains(gpa, length, false)) return false;
        chain.append(gpa, length, false);
      }
      for (const [gpa, length] of writable) {
        if (!this.#ram.contains(gpa, length, true)) return false;
        chain.append(gpa, length, true);
      }
      this.took(chain);
      this.#again.push(chain);
    }
    return true;
  }
}
