import { FakeMemory } from "../../testing/fake-memory.ts";
import { Desc, DescFlag } from "../../virtio/spec.ts";
import type { QueueAddresses } from "../../virtio/virt-queue.ts";

const PAGE = 4096;
/** What a byte is to the device; none of its business where it is neither. */
const Offer = { RING: 1, BUFFER: 2 } as const;

/** A used ring: flags and index, the elements, an event index. */
const Used = { ENTRIES: 4, ENTRY: 8, EVENT: 2 } as const;

interface Ring {
  readonly addresses: QueueAddresses;
  readonly size: number;
  readonly isPacked: boolean;
}

/** Guest memory that knows which bytes a driver ever let a device write, and whether it wrote others. */
export class WitnessMemory extends FakeMemory {
  /** Whose writes these are. */
  isDriver = false;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** What the memory would be without the device. */
  readonly #before: Uint8Array;
  readonly #offered: Uint8Array;
  /** By page: the device said that it wrote there. */
  readonly #reported: Uint8Array;
  readonly #rings: Ring[] = [];
  /** Ranges by which the device is told where to write: what it writes there itself tells it something else. */
  readonly #instructions: [gpa: number, length: number][] = [];

  /** @param bytes used again and again: of shared memory a collector does not know how much it is */
  constructor(bytes: Uint8Array) {
    super(bytes.fill(0));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#before = new Uint8Array(bytes.length);
    this.#offered = new Uint8Array(bytes.length);
    this.#reported = new Uint8Array(bytes.length / PAGE);
  }

  override written(gpa: number, length: number): void {
    if (this.isDriver) this.#before.set(this.#bytes.subarray(gpa, gpa + length), gpa);
    else this.#reported.fill(1, Math.floor(gpa / PAGE), Math.ceil((gpa + length) / PAGE));
  }

  /** The driver does something. */
  drive(what: () => void): void {
    this.isDriver = true;
    what();
    this.isDriver = false;
  }

  /** From now on everything that the device changes counts. */
  begin(): void {
    this.#before.set(this.#bytes);
    this.#reported.fill(0);
  }

  /** There is a queue here, from now on and for good. */
  addRing(ring: Ring): void {
    this.#rings.push(ring);
    const { addresses, size, isPacked } = ring;
    const { desc, device } = addresses;
    this.#mark(device, isPacked ? 4 : Used.ENTRIES + Used.ENTRY * size + Used.EVENT, Offer.RING);
    if (isPacked) this.#mark(desc, Desc.LENGTH * size, Offer.RING);
    this.#instructions.push([desc, Desc.LENGTH * size]);
  }

  /** The device may write these. */
  offer(gpa: number, length: number): void {
    this.#mark(gpa, length, Offer.BUFFER);
  }

  /**
   * Offers what the rings offer now.
   * @param isBroken descriptors may be anything: all of them count, not those alone that are the device's now
   */
  offerRings(isBroken: boolean): void {
    for (const { addresses, size, isPacked } of this.#rings) {
      for (let at = addresses.desc, i = 0; i < size; i++, at += Desc.LENGTH) {
        if (at + Desc.LENGTH <= this.#bytes.length) this.#offerDescriptor(at, isPacked, isBroken);
      }
    }
  }

  /** The device wrote over what it is told by: what it may write cannot be known. */
  get isConfused(): boolean {
    return this.#instructions.some(([gpa, length]) =>
      this.#offered.subarray(gpa, gpa + length).some((what) => what === Offer.BUFFER),
    );
  }

  /** Addresses of bytes that the device changed and was not offered. */
  get trespasses(): number[] {
    return this.#changed().filter((gpa) => this.#offered[gpa] === 0);
  }

  /** Addresses of bytes that the device changed without saying so. */
  get unreported(): number[] {
    return this.#changed().filter((gpa) => this.#reported[Math.floor(gpa / PAGE)] === 0);
  }

  #changed(): number[] {
    const changed: number[] = [];
    const [now, before] = [this.#bytes, this.#before].map(
      ({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length / 4),
    ) as [Uint32Array, Uint32Array];
    for (let word = 0; word < now.length; word++) {
      if (now[word] === before[word]) continue;
      for (let gpa = 4 * word; gpa < 4 * word + 4; gpa++)
        if (this.#bytes[gpa] !== this.#before[gpa]) changed.push(gpa);
    }
    return changed;
  }

  #offerDescriptor(at: number, isPacked: boolean, isBroken: boolean): void {
    const flags = this.#view.getUint16(at + (isPacked ? Desc.PACKED_FLAGS : Desc.FLAGS), true);
    const isUsed = ((flags & DescFlag.AVAIL) !== 0) === ((flags & DescFlag.USED) !== 0);
    if (isPacked && isUsed && !isBroken) return;
    const [gpa, length] = this.#range(at);
    if ((flags & DescFlag.INDIRECT) === 0) {
      if ((flags & DescFlag.WRITE) !== 0) this.offer(gpa, length);
      return;
    }
    this.#instructions.push([gpa, length]);
    for (let entry = gpa; entry + Desc.LENGTH <= Math.min(gpa + length, this.#bytes.length); entry += 16) {
      const inner = this.#view.getUint16(entry + (isPacked ? Desc.PACKED_FLAGS : Desc.FLAGS), true);
      if ((inner & DescFlag.WRITE) !== 0) this.offer(...this.#range(entry));
    }
  }

  #range(at: number): [gpa: number, length: number] {
    const high = this.#view.getUint32(at + 4, true);
    return [this.#view.getUint32(at, true) + high * 2 ** 32, this.#view.getUint32(at + Desc.LEN, true)];
  }

  #mark(gpa: number, length: number, what: number): void {
    const end = Math.min(gpa + length, this.#offered.length);
    for (let at = gpa; at < end; at++) this.#offered[at] = Math.max(this.#offered[at] ?? 0, what);
  }
}
