import { RootedBuffer } from "../rooted-buffer.ts";
import type { AtCalls } from "./at-calls.ts";

const LISTING_BYTES = 32_768;
/** Directories whose entries are held at a time, whatever is open. */
const LISTINGS = 32;

/** One entry of a listing; used again for the next. */
export interface ListedEntry {
  inodeLow: number;
  inodeHigh: number;
  nextLow: number;
  nextHigh: number;
  type: number;
  name: Uint8Array;
}

/** An open file or directory of a tree. */
export interface TreeHandle {
  /** −1: it could not be opened again. */
  readonly fd: number;
  readonly node: number;
  readonly flags: number;
  readonly listing: Listing | undefined;
}

/** Buffers of the directories that were read last. */
export class ListingBuffers {
  /** Who has one, oldest first. */
  readonly #readers: Listing[] = [];

  /** A buffer, where need be of the directory that has had one for longest. */
  lend(to: Listing): RootedBuffer {
    this.#readers.push(to);
    const buffer = this.#readers.length > LISTINGS ? this.#readers.shift()?.giveBuffer() : undefined;
    return buffer ?? new RootedBuffer(LISTING_BYTES);
  }

  /** A directory is closed. */
  takeBack(from: Listing): void {
    const at = this.#readers.indexOf(from);
    if (at >= 0) this.#readers.splice(at, 1);
  }
}

/** Reads a directory's entries at positions the file system makes up, a buffer full at a time. */
export class Listing {
  readonly #buffers: ListingBuffers;
  /** None until the directory is read, and when others are read meanwhile. */
  #buffer: RootedBuffer | undefined;
  #at = 0;
  #end = 0;
  /** The position of the entry at `#at`; −1 after the buffer went to somebody else. */
  #low = 0;
  #high = 0;

  constructor(buffers: ListingBuffers) {
    this.#buffers = buffers;
  }

  /** The buffer, for somebody else. */
  giveBuffer(): RootedBuffer | undefined {
    const buffer = this.#buffer;
    this.#buffer = undefined;
    this.#at = this.#end = 0;
    this.#low = -1;
    return buffer;
  }

  close(): void {
    this.#buffers.takeBack(this);
    this.#buffer = undefined;
  }

  /** Fills `entry` with what is at the position: 1, 0 where nothing is, or a negative errno. */
  read(calls: AtCalls, fd: number, low: number, high: number, entry: ListedEntry): number {
    const buffer = (this.#buffer ??= this.#buffers.lend(this));
    if (low !== this.#low || high !== this.#high) {
      const moved = this.#isNext(buffer, low, high) ? 0 : calls.seekTo(fd, low, high);
      if (moved < 0) return moved;
    }
    if (this.#at >= this.#end) {
      const length = calls.readEntries(fd, buffer);
      if (length <= 0) return length;
      this.#at = 0;
      this.#end = length;
    }
    this.#low = low;
    this.#high = high;
    this.#fill(buffer, entry);
    return 1;
  }

  /** Steps over the current entry where that leads to the position; else forgets what has been read. */
  #isNext({ view }: RootedBuffer, low: number, high: number): boolean {
    const isNext =
      this.#at < this.#end &&
      view.getUint32(this.#at + 8, true) === low &&
      view.getUint32(this.#at + 12, true) === high;
    this.#at = isNext ? this.#at + view.getUint16(this.#at + 16, true) : this.#end;
    return isNext;
  }

  /** `struct linux_dirent64` (getdents64(2)). */
  #fill({ view, bytes }: RootedBuffer, entry: ListedEntry): void {
    const at = this.#at;
    entry.inodeLow = view.getUint32(at, true);
    entry.inodeHigh = view.getUint32(at + 4, true);
    entry.nextLow = view.getUint32(at + 8, true);
    entry.nextHigh = view.getUint32(at + 12, true);
    entry.type = view.getUint8(at + 18);
    entry.name = bytes.subarray(at + 19, bytes.indexOf(0, at + 19));
  }
}

/** Open files by number. */
export class HandleTable {
  readonly #handles = new Map<number, TreeHandle>();
  #nextId = 1;

  get entries(): Iterable<[number, TreeHandle]> {
    return this.#handles.entries();
  }

  get(id: number): TreeHandle | undefined {
    return this.#handles.get(id);
  }

  add(handle: TreeHandle, id: number = this.#nextId): number {
    this.#nextId = Math.max(this.#nextId, id + 1);
    this.#handles.set(id, handle);
    return id;
  }

  remove(id: number): TreeHandle | undefined {
    const handle = this.#handles.get(id);
    this.#handles.delete(id);
    handle?.listing?.close();
    return handle;
  }
}
