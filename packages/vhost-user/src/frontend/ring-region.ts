import { addSeals, close, createMemfd, Seal, SharedMapping } from "@northbridge/linux";
import type { DriverMemory } from "@northbridge/sdk/virtio";
import type { SharedRegion } from "./ring-server.ts";

/** Descriptors of a ring: more than one request has segments. */
export const RING_SIZE = 1024;
const RING_BYTES = 1 << 16;
/** Behind all RAM there can be. */
const GPA = 2 ** 44;

/** Where one ring goes. */
export interface RingSpace {
  /** The ring is at its start. */
  readonly memory: DriverMemory;
  readonly userAddress: number;
}

/** Memory for all rings of a device, as one of the few regions a back end is told of. */
export class RingRegion {
  readonly region: SharedRegion;
  readonly #mapping: SharedMapping;

  /** Throws `SystemCallError`. */
  constructor(rings: number) {
    const size = RING_BYTES * rings;
    const fd = createMemfd("vhost-user rings", size);
    try {
      addSeals(fd, Seal.SHRINK | Seal.GROW);
      this.#mapping = new SharedMapping(fd, size, "vhost-user rings");
      this.region = { gpa: GPA, size, userAddress: Number(this.#mapping.address), fd, offset: 0 };
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  space(index: number): RingSpace {
    const at = RING_BYTES * index;
    return {
      memory: new RingBytes(new DataView(this.#mapping.buffer, at, RING_BYTES)),
      userAddress: this.region.userAddress + at,
    };
  }

  close(): void {
    this.#mapping.unmap();
    close(this.region.fd);
  }
}

/** A ring's bytes: all addresses are the ring's own, and inside. */
class RingBytes implements DriverMemory {
  readonly #data: DataView;

  constructor(data: DataView) {
    this.#data = data;
  }

  readU16(at: number): number {
    return this.#data.getUint16(at, true);
  }

  readU32(at: number): number {
    return this.#data.getUint32(at, true);
  }

  write(at: number, from: Uint8Array): boolean {
    new Uint8Array(this.#data.buffer, this.#data.byteOffset, this.#data.byteLength).set(from, at);
    return true;
  }

  writeU16(at: number, value: number): boolean {
    this.#data.setUint16(at, value, true);
    return true;
  }

  writeU32(at: number, value: number): boolean {
    this.#data.setUint32(at, value, true);
    return true;
  }
}
