import { FeatureSet } from "../../virtio/feature-set.ts";
import { Desc, DescFlag, Feature } from "../../virtio/spec.ts";
import { RawPackedRing } from "./raw-packed-ring.ts";
import { type RawDescriptor, RawRing, type TestRing } from "./raw-ring.ts";
import type { ProbeRequest, VirtioTarget } from "./target.ts";

/** How a request's bytes lie in descriptors. */
export type Arrangement = "plain" | "pieces" | "indirect" | "mixed" | "writeFlaggedTable";

/** A request under way. */
export interface Offered {
  readonly head: number;
  readonly readableGpa: number;
  readonly writableGpa: number;
  readonly request: ProbeRequest;
  /** Descriptors it was made of that the device must leave alone, as the driver wrote them. */
  readonly tables: readonly { readonly gpa: number; readonly bytes: Uint8Array }[];
}

/** A finished request. */
export interface Finished {
  readonly written: number;
  readonly answer: Uint8Array;
}

const RING_SIZE = 64;
/** Descriptors for each of the two directions of a request that lies in pieces. */
const PIECES = 5;
/** In front of and behind every buffer lies this, and stays. */
const GUARD = 64;
const GUARD_BYTE = 0xa5;
/** What a buffer holds that the device has not written, if nobody says otherwise. */
const UNWRITTEN = 0x5a;

/** Features this driver has no use for, and those of legacy devices only: NOTIFY_ON_EMPTY and ANY_LAYOUT (§6.3). */
const REFUSED: ReadonlySet<number> = new Set([Feature.IN_ORDER, 24, 27]);

/** Throws what a clause found. */
export function violated(what: string): never {
  throw new Error(what);
}

export interface DriverOptions {
  /** Features not to accept. */
  readonly without?: readonly number[];
  /** Stops before DRIVER_OK. */
  readonly notReady?: boolean;
  /** Accepts packed rings, which must be offered. */
  readonly packed?: boolean;
}

/** A driver for the suite: starts a device, offers requests in odd shapes and looks at every byte afterwards. */
export class ClauseDriver {
  readonly target: VirtioTarget;
  readonly features: FeatureSet;
  /** What buffers hold that the device has not written. */
  filling: number = UNWRITTEN;
  readonly #rings: readonly TestRing[];
  readonly #seen: number[];
  #next: number;
  readonly #guards: number[] = [];

  private constructor(target: VirtioTarget, features: FeatureSet, rings: readonly TestRing[], next: number) {
    this.target = target;
    this.features = features;
    this.#rings = rings;
    this.#seen = rings.map(() => 0);
    this.#next = next;
  }

  /** The driver's way to DRIVER_OK with nearly all that is offered (§3.1.1). */
  static async start(
    target: VirtioTarget,
    { without = [], notReady = false, packed = false }: DriverOptions = {},
  ): Promise<ClauseDriver> {
    const bits: number[] = [];
    for (let bit = 0; bit < 64; bit++) {
      const isRefused = REFUSED.has(bit) || without.includes(bit) || (bit === Feature.RING_PACKED && !packed);
      if (target.offered.has(bit) && !isRefused) bits.push(bit);
    }
    const features = FeatureSet.of(bits);
    if (packed && !features.has(Feature.RING_PACKED)) violated("packed rings are not offered");
    if (!(await target.negotiate(features))) violated("the device refuses what it offers");
    let next = target.memory.slots[0]?.gpa ?? 0;
    const rings = target.queueSizes.map((most) => {
      const Ring = packed ? RawPackedRing : RawRing;
      const ring = new Ring(target.memory, next, Math.min(most, RING_SIZE));
      next += ring.byteLength;
      return ring;
    });
    for (const [index, ring] of rings.entries()) await target.enableQueue(index, ring.size, ring.addresses);
    if (!notReady) await target.driverOk();
    return new ClauseDriver(target, features, rings, next);
  }

  has(feature: number): boolean {
    return this.features.has(feature);
  }

  ring(index: number): TestRing {
    return this.#rings[index] ?? violated(`the device has no queue ${index}`);
  }

  /** Of a driver that has split rings. */
  splitRing(index: number): RawRing {
    const ring = this.ring(index);
    return ring instanceof RawRing ? ring : violated(`queue ${index} is packed`);
  }

  /** Of a driver that has packed rings. */
  packedRing(index: number): RawPackedRing {
    const ring = this.ring(index);
    return ring instanceof RawPackedRing ? ring : violated(`queue ${index} is split`);
  }

  /** Memory full of `byte`, between guards. */
  alloc(length: number, byte: number): number {
    const { memory } = this.target;
    const gpa = this.#next;
    this.#next += (length + 2 * GUARD + 15) & ~15;
    const guard = new Uint8Array(GUARD).fill(GUARD_BYTE);
    if (!memory.write(gpa, guard) || !memory.write(gpa + GUARD + length, guard))
      violated("the suite ran out of memory");
    this.#guards.push(gpa, gpa + GUARD + length);
    memory.write(gpa + GUARD, new Uint8Array(length).fill(byte));
    return gpa + GUARD;
  }

  bytes(gpa: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.target.memory.read(gpa, bytes);
    return bytes;
  }

  /** Offers a request; the device hears of it where `isSilent` is not set. */
  offer(request: ProbeRequest, arrangement: Arrangement = "plain", isSilent = false): Offered {
    const { memory } = this.target;
    const readableGpa = this.alloc(request.readable.length, 0);
    memory.write(readableGpa, request.readable);
    const writableGpa = this.alloc(request.writable, this.filling);
    const pieces = arrangement === "pieces" || arrangement === "mixed" ? PIECES : 1;
    const parts = [
      ...cut(readableGpa, request.readable.length, pieces, 0),
      ...cut(writableGpa, request.writable, pieces, DescFlag.WRITE),
    ];
    const tables: { gpa: number; bytes: Uint8Array }[] = [];
    const ring = this.ring(request.queue);
    const chain = this.#arrange(ring, parts, arrangement, tables);
    const head = ring.offer(chain);
    // A packed ring's descriptors are the device's to use.
    for (let i = 0; ring instanceof RawRing && i < chain.length; i++) {
      const gpa = ring.addresses.desc + Desc.LENGTH * ((head + i) % ring.size);
      tables.push({ gpa, bytes: this.bytes(gpa, Desc.LENGTH) });
    }
    if (!isSilent) this.target.notify(request.queue);
    return { head, readableGpa, writableGpa, request, tables };
  }

  /** Waits until the device has used the request, and checks what must hold of every request. */
  async finish(offered: Offered): Promise<Finished> {
    const { queue, writable, readable, check } = offered.request;
    const ring = this.ring(queue);
    const seen = this.#seen[queue] ?? 0;
    if (!(await this.target.until(() => ring.usedIdx !== seen)))
      violated("the device did not use the buffer");
    const element = ring.used(seen);
    this.#seen[queue] = (seen + 1) & 0xffff;
    if (element.id !== offered.head)
      violated(`used element ${element.id}, expected the head ${offered.head}`);
    if (element.length > writable)
      violated(`len ${element.length} of a buffer with room for ${writable} (§2.7.8.2)`);
    const after = this.bytes(offered.readableGpa, readable.length);
    if (after.some((byte, i) => byte !== readable[i]))
      violated("the device wrote to a device-readable buffer");
    for (const guard of this.#guards) {
      if (this.bytes(guard, GUARD).some((byte) => byte !== GUARD_BYTE)) {
        violated("the device wrote outside of the buffer");
      }
    }
    for (const { gpa, bytes } of offered.tables) {
      if (this.bytes(gpa, bytes.length).some((byte, i) => byte !== bytes[i])) {
        violated("the device wrote to a descriptor table entry");
      }
    }
    const answer = this.bytes(offered.writableGpa, writable);
    const fault = check?.(answer, element.length);
    if (fault !== undefined) violated(fault);
    return { written: element.length, answer };
  }

  async request(request: ProbeRequest, arrangement: Arrangement = "plain"): Promise<Finished> {
    return this.finish(this.offer(request, arrangement));
  }

  #arrange(
    ring: TestRing,
    parts: readonly RawDescriptor[],
    arrangement: Arrangement,
    tables: { gpa: number; bytes: Uint8Array }[],
  ): readonly RawDescriptor[] {
    const table = (inside: readonly RawDescriptor[], flags: number): RawDescriptor => {
      const length = Desc.LENGTH * inside.length;
      const gpa = this.alloc(length, 0);
      ring.writeTable(gpa, inside);
      tables.push({ gpa, bytes: this.bytes(gpa, length) });
      return { gpa, length, flags: DescFlag.INDIRECT | flags };
    };
    switch (arrangement) {
      case "plain":
      case "pieces":
        return parts;
      case "indirect":
        return [table(parts, 0)];
      case "writeFlaggedTable":
        return [table(parts, DescFlag.WRITE)];
      case "mixed": {
        const outside = Math.max(1, Math.floor(parts.length / 2));
        return [...parts.slice(0, outside), table(parts.slice(outside), 0)];
      }
    }
  }
}

function cut(gpa: number, length: number, pieces: number, flags: number): RawDescriptor[] {
  const parts: RawDescriptor[] = [];
  const size = Math.ceil(length / pieces);
  for (let at = 0; at < length; at += size) {
    parts.push({ gpa: gpa + at, length: Math.min(size, length - at), flags });
  }
  return parts;
}
