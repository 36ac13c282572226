import type { DriverMemory, DriverQueue, DriverQueueOptions, Segment, UsedBuffer } from "./driver-queue.ts";
import { fence } from "./fence.ts";
import { Desc, DescFlag, EventFlag } from "./spec.ts";
import type { QueueAddresses } from "./virt-queue.ts";

const WRAP = 0x8000;

/** The driver's side of a packed virtqueue (virtio 1.3 §2.8). */
export class PackedDriverQueue implements DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  readonly #memory: DriverMemory;
  readonly #eventIdx: boolean;
  readonly #freeIds: number[];
  /** By ID: how many slots a request takes. */
  readonly #slots = new Map<number, number>();
  #free: number;
  /** Positions counted on and on: modulo twice the size they give slot and wrap counter. */
  #avail = 0;
  #notified = 0;
  #used = 0;
  #wants = true;

  constructor(options: DriverQueueOptions) {
    const { memory, gpa, size } = options;
    this.size = size;
    this.#memory = memory;
    this.#eventIdx = options.eventIdx ?? false;
    const driver = gpa + Desc.LENGTH * size;
    this.addresses = { desc: gpa, driver, device: driver + 4 };
    this.byteLength = Desc.LENGTH * size + 16;
    this.#free = size;
    this.#freeIds = Array.from({ length: size }, (_, i) => size - 1 - i);
    memory.write(gpa, new Uint8Array(this.byteLength));
  }

  get free(): number {
    return this.#free;
  }

  add(readable: readonly Segment[], writable: readonly Segment[], indirectGpa?: number): number | undefined {
    const parts = [...readable, ...writable];
    const needed = indirectGpa === undefined ? parts.length : 1;
    const id = this.#freeIds.at(-1);
    if (needed === 0 || needed > this.#free || id === undefined) return undefined;
    this.#freeIds.pop();
    this.#free -= needed;
    this.#slots.set(id, needed);
    const writeFlag = (i: number): number => (i >= readable.length ? DescFlag.WRITE : 0);
    if (indirectGpa !== undefined) {
      parts.forEach((part, i) => {
        this.#describe(indirectGpa + Desc.LENGTH * i, part, 0);
        this.#setFlags(indirectGpa + Desc.LENGTH * i, writeFlag(i));
      });
      const table = { gpa: indirectGpa, length: Desc.LENGTH * parts.length };
      this.#describe(this.#at(this.#avail), table, id);
    } else {
      parts.forEach((part, i) => {
        this.#describe(this.#at(this.#avail + i), part, id);
      });
    }
    // Back to front: the first descriptor's flags hand the whole request over (§2.8.21).
    for (let i = needed - 1; i >= 0; i--) {
      const kind =
        indirectGpa === undefined ? writeFlag(i) | (i + 1 < needed ? DescFlag.NEXT : 0) : DescFlag.INDIRECT;
      if (i === 0) fence();
      this.#setFlags(this.#at(this.#avail + i), kind | this.#marks(this.#avail + i));
    }
    this.#avail += needed;
    return id;
  }

  needsNotification(): boolean {
    const [before, now] = [this.#notified, this.#avail];
    this.#notified = now;
    if (before === now) return false;
    const { device } = this.addresses;
    fence(); // the descriptors before the look whether the device wants to hear of them (§2.8.21.3.1)
    const suppression = this.#memory.readU32(device); // offset and flags, as they belong together
    const flags = suppression >>> 16;
    if (flags === EventFlag.DISABLE) return false;
    if (flags !== EventFlag.DESC || !this.#eventIdx) return true;
    const event = suppression & 0xffff;
    const lapStart = now - (now % this.size);
    const isThisLap = ((event & WRAP) !== 0) === this.#wrap(now);
    const at = (event & (WRAP - 1)) + lapStart - (isThisLap ? 0 : this.size);
    return at >= before && at < now;
  }

  collect(): UsedBuffer[] {
    const used: UsedBuffer[] = [];
    do while (this.#isUsed()) used.push(this.#take());
    while (!this.#rearm());
    return used;
  }

  wantInterrupts(wanted: boolean): boolean {
    this.#wants = wanted;
    return this.#rearm();
  }

  /** Whether the device has used the next slot (§2.8.1). */
  #isUsed(): boolean {
    const flags = this.#memory.readU16(this.#at(this.#used) + Desc.PACKED_FLAGS);
    const wrap = this.#wrap(this.#used);
    return ((flags & DescFlag.AVAIL) !== 0) === wrap && ((flags & DescFlag.USED) !== 0) === wrap;
  }

  #take(): UsedBuffer {
    const at = this.#at(this.#used);
    fence(); // the flags before what they hand over
    const id = this.#memory.readU16(at + Desc.PACKED_ID);
    const slots = this.#slots.get(id);
    if (slots === undefined) throw new Error(`the device used ${id}, which it had not been given`);
    this.#slots.delete(id);
    this.#freeIds.push(id);
    this.#free += slots;
    this.#used += slots;
    const flags = this.#memory.readU16(at + Desc.PACKED_FLAGS);
    return { id, written: (flags & DescFlag.WRITE) === 0 ? 0 : this.#memory.readU32(at + Desc.LEN) };
  }

  /** False where the device used more before it could know that it should interrupt for it (§2.8.22.1). */
  #rearm(): boolean {
    const flags = !this.#wants ? EventFlag.DISABLE : this.#eventIdx ? EventFlag.DESC : EventFlag.ENABLE;
    const event = (this.#used % this.size) | (this.#wrap(this.#used) ? WRAP : 0);
    this.#memory.writeU32(this.addresses.driver, event | (flags << 16));
    if (!this.#wants) return true;
    fence();
    return !this.#isUsed();
  }

  #at(position: number): number {
    return this.addresses.desc + Desc.LENGTH * (position % this.size);
  }

  #wrap(position: number): boolean {
    return Math.floor(position / this.size) % 2 === 0;
  }

  #marks(position: number): number {
    return this.#wrap(position) ? DescFlag.AVAIL : DescFlag.USED;
  }

  #describe(at: number, { gpa, length }: Segment, id: number): void {
    this.#memory.writeU32(at, gpa >>> 0);
    this.#memory.writeU32(at + 4, Math.floor(gpa / 2 ** 32));
    this.#memory.writeU32(at + Desc.LEN, length);
    this.#memory.writeU16(at + Desc.PACKED_ID, id);
  }

  #setFlags(at: number, flags: number): void {
    this.#memory.writeU16(at + Desc.PACKED_FLAGS, flags);
  }
}
