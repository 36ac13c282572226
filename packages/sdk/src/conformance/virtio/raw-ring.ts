import type { GuestMemory } from "@northbridge/core/contracts";
import { Desc, DescFlag, Ring } from "../../virtio/spec.ts";
import type { QueueAddresses } from "../../virtio/virt-queue.ts";

/** One descriptor as it goes into a table. */
export interface RawDescriptor {
  readonly gpa: number;
  readonly length: number;
  /** `DescFlag` without NEXT, which comes by itself. */
  readonly flags: number;
}

export interface UsedElement {
  readonly id: number;
  readonly length: number;
}

/** A virtqueue of either layout, as the suite's driver uses it. */
export interface TestRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  /** Writes a chain into the next descriptors and offers it. Returns what a used element names it by. */
  offer(chain: readonly RawDescriptor[]): number;
  /** Writes an indirect table. */
  writeTable(gpa: number, chain: readonly RawDescriptor[]): void;
  /** Elements used so far, modulo 2^16. */
  readonly usedIdx: number;
  used(index: number): UsedElement;
}

/** A split virtqueue as it lies in memory (virtio 1.3 §2.7), with every field in the hands of the test. */
export class RawRing implements TestRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  readonly #memory: GuestMemory;
  #next = 0;
  #avail = 0;

  /** @param gpa a multiple of 16 */
  constructor(memory: GuestMemory, gpa: number, size: number) {
    this.size = size;
    this.#memory = memory;
    const driver = gpa + Desc.LENGTH * size;
    const device = (driver + Ring.RING + Ring.AVAIL_ENTRY * size + 2 + 3) & ~3;
    this.addresses = { desc: gpa, driver, device };
    this.byteLength = (device + Ring.RING + Ring.USED_ENTRY * size + 2 - gpa + 15) & ~15;
    memory.write(gpa, new Uint8Array(this.byteLength));
  }

  /** Writes a chain into the next descriptors and offers it. Returns its head. */
  offer(chain: readonly RawDescriptor[]): number {
    const head = this.#next;
    this.#next = (head + chain.length) % this.size;
    this.#write(this.addresses.desc, chain, head, this.size);
    this.offerHead(head);
    return head;
  }

  /** Writes an indirect table. Its descriptors are chained in order. */
  writeTable(gpa: number, chain: readonly RawDescriptor[]): void {
    this.#write(gpa, chain, 0, chain.length);
  }

  offerHead(head: number): void {
    const memory = this.#memory;
    memory.writeU16(this.addresses.driver + Ring.RING + Ring.AVAIL_ENTRY * (this.#avail % this.size), head);
    this.#avail = (this.#avail + 1) & 0xffff;
    memory.writeU16(this.addresses.driver + Ring.IDX, this.#avail);
  }

  get usedIdx(): number {
    return this.#memory.readU16(this.addresses.device + Ring.IDX);
  }

  get usedFlags(): number {
    return this.#memory.readU16(this.addresses.device + Ring.FLAGS);
  }

  used(index: number): UsedElement {
    const at = this.addresses.device + Ring.RING + Ring.USED_ENTRY * (index % this.size);
    return { id: this.#memory.readU32(at), length: this.#memory.readU32(at + 4) };
  }

  setAvailFlags(flags: number): void {
    this.#memory.writeU16(this.addresses.driver + Ring.FLAGS, flags);
  }

  setUsedEvent(index: number): void {
    this.#memory.writeU16(this.addresses.driver + Ring.RING + Ring.AVAIL_ENTRY * this.size, index & 0xffff);
  }

  #write(table: number, chain: readonly RawDescriptor[], first: number, size: number): void {
    const memory = this.#memory;
    chain.forEach(({ gpa, length, flags }, i) => {
      const at = table + Desc.LENGTH * ((first + i) % size);
      const isLast = i + 1 === chain.length;
      memory.writeU32(at + Desc.ADDRESS, gpa >>> 0);
      memory.writeU32(at + Desc.ADDRESS + 4, Math.floor(gpa / 2 ** 32));
      memory.writeU32(at + Desc.LEN, length);
      memory.writeU16(at + Desc.FLAGS, flags | (isLast ? 0 : DescFlag.NEXT));
      memory.writeU16(at + Desc.NEXT, isLast ? 0 : (first + i + 1) % size);
    });
  }
}
