import { ImageError } from "../../image-error.ts";

const CHUNK = 512;
/** Chunks of 2 KiB: 16 TiB in clusters of 64 KiB that lie together. */
const MAX_CHUNKS = 1 << 19;

/** How often each host cluster is referenced, as found by a walk. Memory follows the references, not the file. */
export class RefcountTally {
  readonly #path: string;
  readonly #chunks = new Map<number, Uint32Array>();
  #end = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** @throws {@link ImageError} where the references of a damaged image lie too scattered to be counted in a GiB */
  add(cluster: number, count = 1): number {
    const key = Math.floor(cluster / CHUNK);
    let chunk = this.#chunks.get(key);
    if (chunk === undefined) {
      if (this.#chunks.size >= MAX_CHUNKS)
        throw new ImageError(this.#path, "unsupported", "the tables name more clusters than can be counted");
      this.#chunks.set(key, (chunk = new Uint32Array(CHUNK)));
    }
    const now = (chunk[cluster % CHUNK] ?? 0) + count;
    chunk[cluster % CHUNK] = now;
    if (cluster >= this.#end && now > 0) this.#end = cluster + 1;
    return now;
  }

  /** Takes one reference back. */
  remove(cluster: number): void {
    const chunk = this.#chunks.get(Math.floor(cluster / CHUNK));
    if (chunk !== undefined) chunk[cluster % CHUNK] = Math.max(0, (chunk[cluster % CHUNK] ?? 0) - 1);
  }

  get(cluster: number): number {
    return this.#chunks.get(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }

  /** One more than the last cluster that was ever counted. */
  get end(): number {
    return this.#end;
  }

  /** Visits every cluster with a count, in order. */
  forEach(visit: (cluster: number, count: number) => void): void {
    for (const key of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.#chunks.get(key);
      if (chunk === undefined) continue;
      for (let index = 0; index < CHUNK; index += 1) {
        const count = chunk[index] ?? 0;
        if (count > 0) visit(key * CHUNK + index, count);
      }
    }
  }
}
