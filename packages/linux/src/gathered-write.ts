import { unlessAgain } from "./files.ts";
import { libc } from "./libc.ts";
import { addressOf } from "./mapping.ts";
import { RootedBuffer } from "./rooted-buffer.ts";

/** `struct iovec` of x86-64. */
const Iovec = { BASE: 0, BYTES: 8, LENGTH: 16 } as const;
/** More pieces than this are copied into one: a large frame of Linux has 19 at most, IOV_MAX is 1024. */
const MOST_PIECES = 64;

/**
 * Writes of a header and pieces of memory in one call (writev(2)). Pieces of shared memory, as a machine's RAM is, go
 * from where they are; what lies in other memory, where the collector may move it, is copied first.
 */
export class GatheredWrite {
  /** Goes in front of the pieces. */
  readonly header: Uint8Array;
  readonly #copies: RootedBuffer;
  readonly #vectors = new RootedBuffer((MOST_PIECES + 1) * Iovec.LENGTH);
  readonly #base: number;
  /** Vectors and bytes of `copies` in use, and where the last vector ends. */
  #count = 0;
  #copied = 0;
  #end = 0;

  /** @param mostBytes copied in one write, header apart; what is beyond is cut off */
  constructor(headerLength: number, mostBytes: number) {
    this.#copies = new RootedBuffer(headerLength + mostBytes);
    this.#base = Number(this.#copies.address);
    this.header = this.#copies.bytes.subarray(0, headerLength);
  }

  /** Bytes written, `undefined` where it would block (EAGAIN). Throws `SystemCallError`. */
  write(fd: number, pieces: readonly Uint8Array[]): number | undefined {
    this.#count = 0;
    this.#copied = 0;
    this.#append(this.header.length);
    for (const piece of pieces) {
      if (piece.buffer instanceof SharedArrayBuffer && pieces.length <= MOST_PIECES)
        this.#add(addressOf(piece), piece.length);
      else this.#copy(piece);
    }
    const result = this.#copies.lend(() =>
      this.#vectors.lend((vectors) => libc().writev(fd, vectors, this.#count)),
    );
    return unlessAgain(result, "writev", fd);
  }

  #copy(piece: Uint8Array): void {
    const { bytes } = this.#copies;
    const room = bytes.length - this.#copied;
    const fitting = piece.length <= room ? piece : piece.subarray(0, room);
    bytes.set(fitting, this.#copied);
    this.#append(fitting.length);
  }

  /** The next `length` bytes of `copies`, in one vector with those before where nothing came in between. */
  #append(length: number): void {
    this.#add(this.#base + this.#copied, length);
    this.#copied += length;
  }

  #add(address: number, length: number): void {
    if (length === 0) return;
    const { view } = this.#vectors;
    if (this.#count > 0 && address === this.#end) {
      const at = (this.#count - 1) * Iovec.LENGTH + Iovec.BYTES;
      view.setUint32(at, view.getUint32(at, true) + length, true);
    } else {
      const at = this.#count * Iovec.LENGTH;
      view.setUint32(at + Iovec.BASE, address >>> 0, true);
      view.setUint32(at + Iovec.BASE + 4, Math.floor(address / 2 ** 32), true);
      view.setUint32(at + Iovec.BYTES, length, true);
      this.#count += 1;
    }
    this.#end = address + length;
  }
}
