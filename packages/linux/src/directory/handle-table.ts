import { RootedBuffer } from "../rooted-buffer.ts";
import type { AtCalls } from "./at-calls.ts";

const LISTING_BYTES = 32_768;

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

/** Reads a directory's entries at positions the file system makes up, a buffer full at a time. */
export class Listing {
  readonly #buffer = new RootedBuffer(LISTING_BYTES);
  #at = 0;
  #end = 0;
  /** The position of the entry at `#at`. */
  #low = 0;
  #high = 0;

  /** Fills `entry` with what is at the position: 1, 0 where nothing is, or a negative errno. */
  read(calls: AtCalls, fd: number, low: number, high: number, entry: ListedEntry): number {
    if (low !== this.#low || high !== this.#high) {
      const moved = this.#isNext(low, high) ? 0 : calls.seekTo(fd, low, high);
      if (moved < 0) return moved;
    }
    if (this.#at >= this.#end) {
      const length = calls.readEntries(fd, this.#buffer);
      if (length <= 0) return length;
      this.#at = 0;
      this.#end = length;
    }
    this.#low = low;
    this.#high = high;
    this.#fill(entry);
    return 1;
  }

  /** Steps over the current entry where that leads to the position; else forgets what has been read. */
  #isNext(low: number, high: number): boolean {
    const { view } = this.#buffer;
    const isNext =
      this.#at < this.#end &&
      view.getUint32(this.#at + 8, true) === low &&
      view.getUint32(this.#at + 12, true) === high;
    this.#at = isNext ? this.#at + view.getUint16(this.#at + 16, true) : this.#end;
    return isNext;
  }

  /** `struct linux_dirent64` (getdents64(2)). */
  #fill(entry: ListedEntry): void {
    const { view, bytes } = this.#buffer;
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
    return handle;
  }
}
