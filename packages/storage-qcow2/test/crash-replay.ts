import { MemoryFile } from "../src/file/memory-file.ts";
import type { Random } from "./qemu.ts";

const SECTOR = 512;

interface PendingSector {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Which of the contents that a failure may leave are looked at. */
export interface FailureBounds {
  /** Every subset of the pending sectors, where those are at most ten and have no more subsets than this. */
  readonly subsets: number;
  /** Of more sectors, random ones: as many, with the last sector alone. */
  readonly samples: number;
  /** Of more sectors, prefixes: every one, or as many at the same distance. */
  readonly prefixes: number;
}

/** A file that knows what a power failure may leave of it: what is stable, and any of the sectors written since. */
export class FailingFile extends MemoryFile {
  #stable: Uint8Array = new Uint8Array(0);
  #pending: PendingSector[] = [];
  /** Hears of the moment before each barrier: all that was written since the last one is at risk. */
  onBarrier: () => void = () => undefined;

  override write(offset: number, from: Uint8Array): void {
    // A disk may tear between sectors: each is a write of its own.
    for (let at = 0; at < from.length; ) {
      const length = Math.min(from.length - at, SECTOR - ((offset + at) % SECTOR));
      this.#pending.push({ offset: offset + at, bytes: from.slice(at, at + length) });
      at += length;
    }
    super.write(offset, from);
  }

  override sync(): void {
    if (this.#pending.length > 0) this.onBarrier();
    this.#stable = this.content();
    this.#pending = [];
  }

  /** The content after a failure that kept the pending sectors that `keeps` says. */
  after(keeps: (index: number) => boolean): Uint8Array {
    const file = new MemoryFile("crashed", this.#stable.slice());
    for (const [index, { offset, bytes }] of this.#pending.entries())
      if (keeps(index)) file.write(offset, bytes);
    return file.content();
  }

  /** Contents that a failure now may leave. */
  *failures(random: Random, { subsets, samples, prefixes }: FailureBounds): Generator<Uint8Array> {
    const count = this.#pending.length;
    if (count <= 10 && 2 ** count <= subsets) {
      for (let subset = 0; subset < 2 ** count; subset += 1)
        yield this.after((index) => (subset & (1 << index)) !== 0);
      return;
    }
    const distance = Math.ceil((count + 1) / prefixes);
    for (let prefix = random.below(distance); prefix <= count; prefix += distance)
      yield this.after((index) => index < prefix);
    yield this.after((index) => index === count - 1);
    for (let state = 1; state < samples; state += 1) {
      const oneIn = 1 + random.below(4);
      const kept = Array.from({ length: count }, () => random.chance(oneIn));
      yield this.after((index) => kept[index] === true);
    }
  }
}
