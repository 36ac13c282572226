/** One persistent dirty bitmap: a bit for each `granularity` bytes of the disk. */
export class Bitmap {
  readonly name: string;
  readonly granularity: number;
  /** Writes set its bits. */
  isEnabled: boolean;
  /** It was in use when its image was last closed the hard way: its bits mean nothing. */
  readonly isInconsistent: boolean;
  /** By cluster of the stored bitmap; nothing stands for zeroes. */
  readonly #chunks: (Uint8Array | undefined)[] = [];
  readonly #chunkBytes: number;
  #changed = false;
  #dirtyBits = 0;
  /** No byte before this one, over all chunks, has a bit set. */
  #lowest = 0;

  constructor(
    name: string,
    granularity: number,
    chunkBytes: number,
    isEnabled: boolean,
    isInconsistent = false,
  ) {
    this.name = name;
    this.granularity = granularity;
    this.#chunkBytes = chunkBytes;
    this.isEnabled = isEnabled;
    this.isInconsistent = isInconsistent;
  }

  /** How many bits are set. */
  get dirtyBits(): number {
    return this.#dirtyBits;
  }

  get hasChanged(): boolean {
    return this.#changed;
  }

  /** Its bits are stored as they are. */
  noteStored(): void {
    this.#changed = false;
  }

  get chunks(): readonly (Uint8Array | undefined)[] {
    return this.#chunks;
  }

  loadChunk(index: number, bytes: Uint8Array): void {
    this.#chunks[index] = bytes;
    for (const byte of bytes) this.#dirtyBits += bitsIn(byte);
    this.#lowest = 0;
  }

  isSet(bit: number): boolean {
    const bits = this.#chunkBytes * 8;
    const chunk = this.#chunks[Math.floor(bit / bits)];
    return chunk !== undefined && ((chunk[(bit % bits) >>> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  /** Sets the bits of a range of the disk. */
  mark(offset: number, length: number): void {
    if (length > 0)
      this.setBits(
        Math.floor(offset / this.granularity),
        Math.floor((offset + length - 1) / this.granularity),
      );
  }

  setBits(first: number, last: number): void {
    const bits = this.#chunkBytes * 8;
    this.#lowest = Math.min(this.#lowest, Math.floor(first / 8));
    for (let bit = first; bit <= last; ) {
      const index = Math.floor(bit / bits);
      let chunk = this.#chunks[index];
      if (chunk === undefined) this.#chunks[index] = chunk = new Uint8Array(this.#chunkBytes);
      const at = bit % bits;
      const whole = at % 8 === 0 && bit + 8 <= last + 1;
      const now = chunk[at >>> 3] ?? 0;
      const next = whole ? 0xff : now | (1 << (at & 7));
      bit += whole ? 8 : 1;
      if (next === now) continue;
      chunk[at >>> 3] = next;
      this.#dirtyBits += bitsIn(next) - bitsIn(now);
      this.#changed = true;
    }
  }

  clearBit(bit: number): void {
    const bits = this.#chunkBytes * 8;
    const chunk = this.#chunks[Math.floor(bit / bits)];
    if (chunk === undefined || !this.isSet(bit)) return;
    const at = (bit % bits) >>> 3;
    chunk[at] = (chunk[at] ?? 0) & ~(1 << (bit & 7));
    this.#dirtyBits -= 1;
    this.#changed = true;
  }

  /** The first bit that is set. Who takes one after the other looks at no byte twice. */
  first(): number | undefined {
    const end = this.#dirtyBits === 0 ? 0 : this.#chunks.length * this.#chunkBytes;
    while (this.#lowest < end) {
      const within = this.#lowest % this.#chunkBytes;
      const chunk = this.#chunks[Math.floor(this.#lowest / this.#chunkBytes)];
      const byte = chunk?.[within] ?? 0;
      if (byte !== 0) return this.#lowest * 8 + (31 - Math.clz32(byte & -byte));
      this.#lowest += chunk === undefined ? this.#chunkBytes - within : 1;
    }
    return undefined;
  }

  clear(): void {
    if (this.#chunks.some((chunk) => chunk !== undefined)) this.#changed = true;
    this.#chunks.length = 0;
    this.#dirtyBits = 0;
    this.#lowest = 0;
  }

  /** Sets the bits that `other` has, whatever its granularity. @param size of the disk */
  merge(other: Bitmap, size: number): void {
    for (const { offset, length, isDirty } of other.runs(0, size)) if (isDirty) this.mark(offset, length);
  }

  /** Runs of the disk from `offset` to `end` by whether they are dirty. */
  *runs(offset: number, end: number): Generator<{ offset: number; length: number; isDirty: boolean }> {
    let at = offset;
    while (at < end) {
      const isDirty = this.isSet(Math.floor(at / this.granularity));
      let next = this.#nextChange(Math.floor(at / this.granularity), isDirty) * this.granularity;
      if (next > end) next = end;
      yield { offset: at, length: next - at, isDirty };
      at = next;
    }
  }

  /** The first bit behind `bit` that is not `isSet`; chunks that are not there are skipped whole. */
  #nextChange(bit: number, isSet: boolean): number {
    const bits = this.#chunkBytes * 8;
    let at = bit + 1;
    for (;;) {
      const index = Math.floor(at / bits);
      const chunk = this.#chunks[index];
      if (chunk === undefined) {
        if (isSet) return at;
        if (index >= this.#chunks.length) return Number.MAX_SAFE_INTEGER / this.granularity;
        at = (index + 1) * bits;
        continue;
      }
      const byte = chunk[(at % bits) >>> 3] ?? 0;
      if (at % 8 === 0 && byte === (isSet ? 0xff : 0)) {
        at += 8;
        continue;
      }
      if (((byte & (1 << (at & 7))) !== 0) !== isSet) return at;
      at += 1;
    }
  }

  /** How many bytes of the disk are dirty, as `qemu-img` and QMP count them. */
  dirtyBytes(size: number): number {
    let bytes = 0;
    for (const { length, isDirty } of this.runs(0, size)) if (isDirty) bytes += length;
    return bytes;
  }
}

function bitsIn(byte: number): number {
  const pairs = byte - ((byte >>> 1) & 0x55);
  const fours = (pairs & 0x33) + ((pairs >>> 2) & 0x33);
  return (fours + (fours >>> 4)) & 0x0f;
}
