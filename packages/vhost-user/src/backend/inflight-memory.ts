import { fstatSync } from "node:fs";
import { PAGE_SIZE, SharedMapping } from "@northbridge/linux";
import { inflightLength, InflightRegion } from "./inflight-region.ts";

/** The memory a front end keeps for us, in which the queues note what is in flight. */
export class InflightMemory {
  readonly #mapping: SharedMapping;
  readonly #queues: number;
  readonly #size: number;

  private constructor(mapping: SharedMapping, queues: number, size: number) {
    this.#mapping = mapping;
    this.#queues = queues;
    this.#size = size;
  }

  /** Maps what SET_INFLIGHT_FD describes; undefined where it is not there. The descriptor stays the caller's. */
  static map(
    fd: number,
    { offset, queues, size }: { readonly offset: number; readonly queues: number; readonly size: number },
  ): InflightMemory | undefined {
    const file = fstatSync(fd);
    const end = offset + queues * inflightLength(size);
    if (offset % PAGE_SIZE !== 0 || !file.isFile() || end > file.size) return undefined;
    try {
      const mapping = new SharedMapping(
        fd,
        InflightMemory.lengthOf(queues, size),
        "requests in flight",
        offset,
      );
      return new InflightMemory(mapping, queues, size);
    } catch {
      return undefined;
    }
  }

  /** Bytes of a file for so many queues. */
  static lengthOf(queues: number, size: number): number {
    return Math.ceil((queues * inflightLength(size)) / PAGE_SIZE) * PAGE_SIZE;
  }

  /** Undefined where the front end has no room for that queue. */
  regionOf(index: number, size: number): InflightRegion | undefined {
    if (index >= this.#queues || size !== this.#size) return undefined;
    const length = inflightLength(size);
    return new InflightRegion(new Uint8Array(this.#mapping.buffer, index * length, length), size);
  }

  close(): void {
    this.#mapping.unmap();
  }
}
