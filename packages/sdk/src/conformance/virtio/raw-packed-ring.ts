import type { GuestMemory } from "@northbridge/core/contracts";
import { Desc, DescFlag } from "../../virtio/spec.ts";
import type { QueueAddresses } from "../../virtio/virt-queue.ts";
import type { RawDescriptor, TestRing, UsedElement } from "./raw-ring.ts";

const WRAP = 0x8000;

/** A packed virtqueue as it lies in memory (virtio 1.3 §2.8), with every field in the hands of the test. */
export class RawPackedRing implements TestRing {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  readonly #memory: GuestMemory;
  /** Positions counted on and on: modulo twice the size they give slot and wrap counter. */
  #avail = 0;
  #seen = 0;
  #nextId = 0;
  /** By ID: slots of a request. */
  readonly #slots = new Map<number, number>();
  readonly #used: UsedElement[] = [];

  /** @param gpa a multiple of 16 */
  constructor(memory: GuestMemory, gpa: number, size: number) {
    this.size = size;
    this.#memory = memory;
    const driver = gpa + Desc.LENGTH * size;
    this.addresses = { desc: gpa, driver, device: driver + 4 };
    this.byteLength = Desc.LENGTH * size + 16;
    memory.write(gpa, new Uint8Array(this.byteLength));
  }

  /** Returns the buffer ID. */
  offer(chain: readonly RawDescriptor[]): number {
    const id = this.#nextId;
    this.#nextId = (id + 1) % this.size;
    this.#slots.set(id, chain.length);
    // Back to front: the first descriptor's flags hand the whole chain over (§2.8.21).
    for (let i = chain.length - 1; i >= 0; i--) {
      const part = chain[i];
      if (part === undefined) continue;
      const position = this.#avail + i;
      const next = i + 1 < chain.length ? DescFlag.NEXT : 0;
      const marks = this.#wrap(position) ? DescFlag.AVAIL : DescFlag.USED;
      this.#write(this.#at(position), part, id, part.flags | next | marks);
    }
    this.#avail += chain.length;
    return id;
  }

  writeTable(gpa: number, chain: readonly RawDescriptor[]): void {
    chain.forEach((part, i) => {
      this.#write(gpa + Desc.LENGTH * i, part, 0, part.flags);
    });
  }

  get usedIdx(): number {
    for (;;) {
      const at = this.#at(this.#seen);
      const flags = this.#memory.readU16(at + Desc.PACKED_FLAGS);
      const wrap = this.#wrap(this.#seen);
      const isUsed = ((flags & DescFlag.AVAIL) !== 0) === wrap && ((flags & DescFlag.USED) !== 0) === wrap;
      const id = this.#memory.readU16(at + Desc.PACKED_ID);
      const slots = this.#slots.get(id);
      if (!isUsed || slots === undefined) return this.#used.length;
      this.#slots.delete(id);
      const length = (flags & DescFlag.WRITE) === 0 ? 0 : this.#memory.readU32(at + Desc.LEN);
      this.#used.push({ id, length });
      this.#seen += slots;
    }
  }

  used(index: number): UsedElement {
    return this.#used[index] ?? { id: -1, length: 0 };
  }

  /** Flags of the device's event suppression structure (§2.8.14). */
  get deviceEventFlags(): number {
    return this.#memory.readU16(this.addresses.device + 2);
  }

  /** Writes the driver's event suppression structure; `ahead` counts slots from those the test has seen used. */
  setEvent(flags: number, ahead = 0): void {
    const position = this.#seen + ahead;
    const wrap = this.#wrap(position) ? WRAP : 0;
    this.#memory.writeU16(this.addresses.driver, (position % this.size) | wrap);
    this.#memory.writeU16(this.addresses.driver + 2, flags);
  }

  #at(position: number): number {
    return this.addresses.desc + Desc.LENGTH * (position % this.size);
  }

  #wrap(position: number): boolean {
    return Math.floor(position / this.size) % 2 === 0;
  }

  #write(at: number, { gpa, length }: RawDescriptor, id: number, flags: number): void {
    const memory = this.#memory;
    memory.writeU32(at + Desc.ADDRESS, gpa >>> 0);
    memory.writeU32(at + Desc.ADDRESS + 4, Math.floor(gpa / 2 ** 32));
    memory.writeU32(at + Desc.LEN, length);
    memory.writeU16(at + Desc.PACKED_ID, id);
    memory.writeU16(at + Desc.PACKED_FLAGS, flags);
  }
}
