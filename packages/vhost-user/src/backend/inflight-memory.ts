import { fstatSync } from "node:fs";
import { PAGE_SIZE, SharedMapping } from "@northbridge/linux";
import { inflightLength, InflightRegion } from "./inflight-region.ts";
import { packedInflightLength, PackedInflightRegion, type PackedPlace } from "./packed-inflight-region.ts";

/** What the regions are for. */
export interface InflightShape {
  readonly queues: number;
  readonly size: number;
  readonly isPacked: boolean;
}

const lengthOfOne = ({ size, isPacked }: InflightShape): number =>
  isPacked ? packedInflightLength(size) : inflightLength(size);

/** The memory a front end keeps for us, in which the queues note what is in flight. */
export class InflightMemory {
  readonly #mapping: SharedMapping;
  readonly #shape: InflightShape;

  private constructor(mapping: SharedMapping, shape: InflightShape) {
    this.#mapping = mapping;
    this.#shape = shape;
  }

  /** Maps what SET_INFLIGHT_FD describes; undefined where it is not there. The descriptor stays the caller's. */
  static map(fd: number, offset: number, shape: InflightShape): InflightMemory | undefined {
    const file = fstatSync(fd);
    const end = offset + shape.queues * lengthOfOne(shape);
    if (offset % PAGE_SIZE !== 0 || !file.isFile() || end > file.size) return undefined;
    try {
      const mapping = new SharedMapping(fd, InflightMemory.lengthOf(shape), "requests in flight", offset);
      return new InflightMemory(mapping, shape);
    } catch {
      return undefined;
    }
  }

  /** Bytes of a file for so many queues. */
  static lengthOf(shape: InflightShape): number {
    return Math.ceil((shape.queues * lengthOfOne(shape)) / PAGE_SIZE) * PAGE_SIZE;
  }

  /** Undefined where the front end has no room for that split queue. */
  regionOf(index: number, size: number): InflightRegion | undefined {
    const bytes = this.#bytesOf(index, size, false);
    return bytes && new InflightRegion(bytes, size);
  }

  /** Undefined where the front end has no room for that packed queue. */
  packedRegionOf(index: number, size: number, place: PackedPlace): PackedInflightRegion | undefined {
    const bytes = this.#bytesOf(index, size, true);
    return bytes && new PackedInflightRegion(bytes, size, place);
  }

  #bytesOf(index: number, size: number, isPacked: boolean): Uint8Array | undefined {
    const shape = this.#shape;
    if (index >= shape.queues || size !== shape.size || isPacked !== shape.isPacked) return undefined;
    const length = lengthOfOne(shape);
    return new Uint8Array(this.#mapping.buffer, index * length, length);
  }

  close(): void {
    this.#mapping.unmap();
  }
}
