import { accessInWords, type IoRegion } from "../contracts/index.ts";

/** Accesses remembered: enough to see what a driver was doing. A power of two. */
const LENGTH = 256;

/** The last accesses of a bus, for the report of a device that broke its contract. Noting one allocates nothing. */
export class AccessLog {
  readonly #regions: (IoRegion | undefined)[] = Array.from({ length: LENGTH });
  /** Offset, value, width; the width is negative for a write. */
  readonly #numbers = new Float64Array(3 * LENGTH);
  #next = 0;

  note(region: IoRegion, offset: number, width: number, value: number): void {
    const at = this.#next & (LENGTH - 1);
    this.#next = (this.#next + 1) & (2 * LENGTH - 1);
    this.#regions[at] = region;
    this.#numbers[3 * at] = offset;
    this.#numbers[3 * at + 1] = value;
    this.#numbers[3 * at + 2] = width;
  }

  /** Those of one region, oldest first: `write thermometer+0x0 = 0x1 (4 bytes)`. */
  of(region: IoRegion): readonly string[] {
    const lines: string[] = [];
    for (let back = LENGTH; back > 0; back--) {
      const at = (this.#next - back) & (LENGTH - 1);
      if (this.#regions[at] !== region) continue;
      const [offset = 0, value = 0, width = 0] = this.#numbers.subarray(3 * at);
      lines.push(accessInWords(region, offset, width, `0x${value.toString(16)}`));
    }
    return lines;
  }
}

/** `com1 [0x3f8, 0x400)`. */
export const describeRegion = ({ name, base, length }: IoRegion): string =>
  `${name} [0x${base.toString(16)}, 0x${(base + length).toString(16)})`;
