import type { DriverMemory, DriverQueue, DriverQueueOptions, Segment, UsedBuffer } from "./driver-queue.ts";
import { fence } from "./fence.ts";
import { AvailFlag, Desc, DescFlag, Ring, UsedFlag } from "./spec.ts";
import type { QueueAddresses } from "./virt-queue.ts";

/** The driver's side of a split virtqueue (virtio 1.3 §2.7). */
export class SplitDriverQueue implements DriverQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly byteLength: number;
  readonly #memory: DriverMemory;
  readonly #eventIdx: boolean;
  /** Those free longest come first: a device that uses buffers in order finds them in ring order (§2.7.9). */
  readonly #freeSlots: number[];
  /** By head: the slots of a request. */
  readonly #slots = new Map<number, readonly number[]>();
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
    const device = (driver + Ring.RING + Ring.AVAIL_ENTRY * size + 2 + 3) & ~3;
    this.addresses = { desc: gpa, driver, device };
    this.byteLength = (device + Ring.RING + Ring.USED_ENTRY * size + 2 - gpa + 15) & ~15;
    this.#freeSlots = Array.from({ length: size }, (_, i) => i);
    memory.write(gpa, new Uint8Array(this.byteLength));
  }

  get free(): number {
    return this.#freeSlots.length;
  }

  add(readable: readonly Segment[], writable: readonly Segment[], indirectGpa?: number): number | undefined {
    const count = readable.length + writable.length;
    const needed = indirectGpa === undefined ? count : 1;
    if (needed === 0 || needed > this.free) return undefined;
    const slots = this.#freeSlots.splice(0, needed);
    const head = slots[0] ?? 0;
    const tableSlots = indirectGpa === undefined ? slots : Array.from({ length: count }, (_, i) => i);
    const table = indirectGpa ?? this.addresses.desc;
    [...readable, ...writable].forEach(({ gpa, length }, i) => {
      const next = tableSlots[i + 1];
      const write = i >= readable.length ? DescFlag.WRITE : 0;
      const flags = write | (next === undefined ? 0 : DescFlag.NEXT);
      this.#describe(table + Desc.LENGTH * (tableSlots[i] ?? 0), gpa, length, flags, next ?? 0);
    });
    if (indirectGpa !== undefined) {
      const at = this.addresses.desc + Desc.LENGTH * head;
      this.#describe(at, indirectGpa, Desc.LENGTH * count, DescFlag.INDIRECT, 0);
    }
    this.#slots.set(head, slots);
    this.#memory.writeU16(
      this.addresses.driver + Ring.RING + Ring.AVAIL_ENTRY * (this.#avail % this.size),
      head,
    );
    this.#avail = (this.#avail + 1) & 0xffff;
    fence(); // what the index shows before the index (§2.7.13.3.1)
    this.#memory.writeU16(this.addresses.driver + Ring.IDX, this.#avail);
    return head;
  }

  needsNotification(): boolean {
    const [before, now] = [this.#notified, this.#avail];
    this.#notified = now;
    if (before === now) return false;
    const { device } = this.addresses;
    fence(); // the index before the look whether the device wants to hear of it (§2.7.13.4.1)
    if (!this.#eventIdx) return (this.#memory.readU16(device + Ring.FLAGS) & UsedFlag.NO_NOTIFY) === 0;
    const event = this.#memory.readU16(device + Ring.RING + Ring.USED_ENTRY * this.size);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  collect(): UsedBuffer[] {
    const used: UsedBuffer[] = [];
    do this.#collectInto(used);
    while (!this.#rearm());
    return used;
  }

  wantInterrupts(wanted: boolean): boolean {
    this.#wants = wanted;
    this.#memory.writeU16(this.addresses.driver + Ring.FLAGS, wanted ? 0 : AvailFlag.NO_INTERRUPT);
    return this.#rearm();
  }

  #collectInto(used: UsedBuffer[]): void {
    const { device } = this.addresses;
    const idx = this.#memory.readU16(device + Ring.IDX);
    fence(); // the index before what it shows
    while (this.#used !== idx) {
      const at = device + Ring.RING + Ring.USED_ENTRY * (this.#used % this.size);
      const id = this.#memory.readU32(at);
      const slots = this.#slots.get(id);
      if (slots === undefined) throw new Error(`the device used ${id}, which it had not been given`);
      this.#slots.delete(id);
      this.#freeSlots.push(...slots);
      used.push({ id, written: this.#memory.readU32(at + 4) });
      this.#used = (this.#used + 1) & 0xffff;
    }
  }

  /** False where the device used more before it could know that it should interrupt for it (§2.7.14). */
  #rearm(): boolean {
    if (this.#eventIdx) {
      const event = this.#wants ? this.#used : (this.#used - 1) & 0xffff; // one that has passed comes last
      this.#memory.writeU16(this.addresses.driver + Ring.RING + Ring.AVAIL_ENTRY * this.size, event);
    }
    if (!this.#wants) return true;
    fence();
    return this.#memory.readU16(this.addresses.device + Ring.IDX) === this.#used;
  }

  #describe(at: number, gpa: number, length: number, flags: number, next: number): void {
    this.#memory.writeU32(at, gpa >>> 0);
    this.#memory.writeU32(at + 4, Math.floor(gpa / 2 ** 32));
    this.#memory.writeU32(at + Desc.LEN, length);
    this.#memory.writeU16(at + Desc.FLAGS, flags);
    this.#memory.writeU16(at + Desc.NEXT, next);
  }
}
