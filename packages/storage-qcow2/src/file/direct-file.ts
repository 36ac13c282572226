import { RootedBuffer } from "@northbridge/linux";
import type { BlockFile, FileExtent } from "./block-file.ts";
import type { NodeFile } from "./node-file.ts";

/** Offsets, lengths and addresses are multiples of this: the block of every disk there is (open(2), `O_DIRECT`). */
const BLOCK = 4096;
const BOUNCE = 1 << 20;

/**
 * A file that was opened with `O_DIRECT`: requests go past the host's page cache, through memory of this object that is
 * aligned as the kernel wants it. What is not whole blocks is read before it is written.
 */
export class DirectFile implements BlockFile {
  readonly #file: NodeFile;
  readonly #memory: RootedBuffer = new RootedBuffer(BOUNCE + BLOCK);
  readonly #bounce: Uint8Array;

  constructor(file: NodeFile) {
    this.#file = file;
    const start = (BLOCK - Number(this.#memory.address % BigInt(BLOCK))) % BLOCK;
    this.#bounce = this.#memory.bytes.subarray(start, start + BOUNCE);
  }

  get path(): string {
    return this.#file.path;
  }

  get readOnly(): boolean {
    return this.#file.readOnly;
  }

  size(): number {
    return this.#file.size();
  }

  read(offset: number, into: Uint8Array): void {
    for (const { start, end, at, length, from } of pieces(offset, into.length)) {
      const blocks = this.#bounce.subarray(0, end - start);
      this.#file.read(start, blocks);
      into.set(blocks.subarray(at - start, at - start + length), from);
    }
  }

  write(offset: number, bytes: Uint8Array): void {
    const size = Math.max(this.#file.size(), offset + bytes.length);
    for (const { start, end, at, length, from } of pieces(offset, bytes.length)) {
      const blocks = this.#bounce.subarray(0, end - start);
      if (at > start) this.#file.read(start, blocks.subarray(0, BLOCK));
      if (at + length < end) this.#file.read(end - BLOCK, blocks.subarray(-BLOCK));
      // The one block may be both the first and the last, and then was read twice.
      blocks.set(bytes.subarray(from, from + length), at - start);
      this.#file.write(start, blocks);
    }
    // Whole blocks may have made the file longer than what was written.
    if (this.#file.size() > size) this.#file.truncate(size);
  }

  truncate(size: number): void {
    this.#file.truncate(size);
  }

  sync(): void {
    this.#file.sync();
  }

  extentAt(offset: number, length: number): FileExtent {
    return this.#file.extentAt(offset, length);
  }

  punch(offset: number, length: number): boolean {
    return this.#file.punch(offset, length);
  }

  allocate(offset: number, length: number): boolean {
    return this.#file.allocate(offset, length);
  }

  allocated(): number {
    return this.#file.allocated();
  }

  handOver(toWriter: boolean): void {
    this.#file.handOver(toWriter);
  }

  takeBack(): void {
    this.#file.takeBack();
  }

  close(): void {
    this.#file.close();
  }
}

interface Piece {
  /** Whole blocks of the file. */
  readonly start: number;
  readonly end: number;
  /** The bytes in them that are meant. */
  readonly at: number;
  readonly length: number;
  /** Where those stand in the caller's buffer. */
  readonly from: number;
}

function* pieces(offset: number, length: number): Generator<Piece> {
  for (let done = 0; done < length; ) {
    const at = offset + done;
    const start = at - (at % BLOCK);
    const here = Math.min(length - done, start + BOUNCE - at);
    yield { start, end: Math.ceil((at + here) / BLOCK) * BLOCK, at, length: here, from: done };
    done += here;
  }
}
