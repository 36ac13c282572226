import type { GuestMemory, MemorySlot } from "@northbridge/core/contracts";
import type { TraceWriter } from "./trace-writer.ts";

const PAGE = 4096;
/**
 * Views that are looked at again at every entry, since a device keeps those of its rings: those that the guest changes
 * most often. Buffers come and go, rings change with every request.
 */
const MOST_KEPT = 128;
const LONGEST_KEPT = 64 * 1024;
const MOST_BYTES_KEPT = 256 * 1024;

interface KeptView {
  readonly gpa: number;
  readonly bytes: Uint8Array;
  /** Entries at which the guest had changed it. */
  changes: number;
}

/**
 * Guest memory as a recorded device has it: writes down what the device reads, where a replay would not know it
 * already, and what it writes. What a guest changes in a view while the device looks at it, on another processor, is
 * noted at the next entry only.
 */
export class RecordedMemory implements GuestMemory {
  readonly #inner: GuestMemory;
  readonly #writer: TraceWriter;
  /** What a replay has, by page; pages that are not here are zero there. */
  readonly #known = new Map<number, Uint8Array>();
  /** Oldest first. */
  readonly #kept: KeptView[] = [];
  #bytesKept = 0;
  readonly #scratch = new Uint8Array(4);

  constructor(inner: GuestMemory, writer: TraceWriter) {
    this.#inner = inner;
    this.#writer = writer;
  }

  get slots(): readonly MemorySlot[] {
    return this.#inner.slots;
  }

  get hasViews(): boolean {
    return this.#kept.length > 0;
  }

  /** Notes what the guest changed in views that the device may have kept. For the beginning of an entry. */
  noteViews(): void {
    for (const kept of this.#kept) if (this.#note(kept.gpa, kept.bytes)) kept.changes++;
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    const bytes = this.#inner.view(gpa, length);
    if (bytes === undefined) return undefined;
    this.#note(gpa, bytes);
    if (length <= LONGEST_KEPT) this.#keep(gpa, bytes);
    return bytes;
  }

  read(gpa: number, into: Uint8Array): boolean {
    const isRead = this.#inner.read(gpa, into);
    if (isRead) this.#note(gpa, into);
    return isRead;
  }

  write(gpa: number, from: Uint8Array): boolean {
    const isWritten = this.#inner.write(gpa, from);
    if (isWritten) this.#wrote(gpa, from);
    return isWritten;
  }

  written(gpa: number, length: number): void {
    const bytes = this.#inner.view(gpa, length);
    if (bytes !== undefined) this.#wrote(gpa, bytes);
    this.#inner.written(gpa, length);
  }

  readU8(gpa: number): number {
    return this.#noteScalar(gpa, 1, this.#inner.readU8(gpa));
  }

  readU16(gpa: number): number {
    return this.#noteScalar(gpa, 2, this.#inner.readU16(gpa));
  }

  readU32(gpa: number): number {
    return this.#noteScalar(gpa, 4, this.#inner.readU32(gpa));
  }

  writeU8(gpa: number, value: number): boolean {
    return this.#inner.writeU8(gpa, value) && this.#wroteScalar(gpa, 1, value);
  }

  writeU16(gpa: number, value: number): boolean {
    return this.#inner.writeU16(gpa, value) && this.#wroteScalar(gpa, 2, value);
  }

  writeU32(gpa: number, value: number): boolean {
    return this.#inner.writeU32(gpa, value) && this.#wroteScalar(gpa, 4, value);
  }

  #keep(gpa: number, bytes: Uint8Array): void {
    if (this.#kept.some((kept) => kept.gpa === gpa && kept.bytes.length >= bytes.length)) return;
    this.#kept.push({ gpa, bytes, changes: 0 });
    this.#bytesKept += bytes.length;
    while (this.#kept.length > MOST_KEPT || this.#bytesKept > MOST_BYTES_KEPT) this.#forgetOne();
  }

  /** Of those that changed least often, the oldest. */
  #forgetOne(): void {
    let least = 0;
    for (let at = 1; at < this.#kept.length; at++)
      if ((this.#kept[at]?.changes ?? 0) < (this.#kept[least]?.changes ?? 0)) least = at;
    const [forgotten] = this.#kept.splice(least, 1);
    this.#bytesKept -= forgotten?.bytes.length ?? 0;
  }

  #noteScalar(gpa: number, length: number, value: number): number {
    // All ones may be memory that holds them or no memory: only memory is noted.
    if (this.#inner.view(gpa, length) !== undefined) this.#note(gpa, this.#scalar(length, value));
    return value;
  }

  #wroteScalar(gpa: number, length: number, value: number): true {
    this.#wrote(gpa, this.#scalar(length, value));
    return true;
  }

  #scalar(length: number, value: number): Uint8Array {
    for (let byte = 0; byte < length; byte++) this.#scratch[byte] = value >>> (8 * byte);
    return this.#scratch.subarray(0, length);
  }

  #wrote(gpa: number, bytes: Uint8Array): void {
    this.#writer.dma(gpa, bytes);
    this.#eachPage(gpa, bytes, (page, at, piece) => {
      page.set(piece, at);
    });
  }

  /**
   * Writes down the smallest range of each page in which `bytes` differ from what a replay has there.
   * @returns whether there was one
   */
  #note(gpa: number, bytes: Uint8Array): boolean {
    let isNew = false;
    this.#eachPage(gpa, bytes, (page, at, piece, pieceGpa) => {
      let first = 0;
      while (first < piece.length && page[at + first] === piece[first]) first++;
      if (first === piece.length) return;
      let end = piece.length;
      while (page[at + end - 1] === piece[end - 1]) end--;
      // A copy: the guest may change a view while it is written down.
      const changed = piece.slice(first, end);
      page.set(changed, at + first);
      this.#writer.memory(pieceGpa + first, changed);
      isNew = true;
    });
    return isNew;
  }

  #eachPage(
    gpa: number,
    bytes: Uint8Array,
    visit: (page: Uint8Array, at: number, piece: Uint8Array, pieceGpa: number) => void,
  ): void {
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((gpa + done) / PAGE);
      const at = (gpa + done) % PAGE;
      const length = Math.min(bytes.length - done, PAGE - at);
      let page = this.#known.get(number);
      if (page === undefined) {
        page = new Uint8Array(PAGE);
        this.#known.set(number, page);
      }
      visit(page, at, bytes.subarray(done, done + length), gpa + done);
      done += length;
    }
  }
}
