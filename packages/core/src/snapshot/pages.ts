import type { FileHandle } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { RestoreError } from "../contracts/index.ts";
import { MOST_PAGES_PER_RUN, PAGE_BYTES, type PageRun, PAGES_FILE } from "./manifest.ts";
import type { ReplacedPages } from "./replaced-pages.ts";

/** Looked at in one turn of the event loop: a process has other machines, and signals. */
const PAGES_PER_TURN = 4096;

/** Where a run lies in its bytes. Of a disk, the last page may be short. */
export function rangeOf([first, count]: PageRun, length: number): { offset: number; length: number } {
  const offset = first * PAGE_BYTES;
  return { offset, length: Math.min(count * PAGE_BYTES, length - offset) };
}

/** Writes the pages that are not all zero, one after the other. */
export async function writePages(from: Uint8Array, file: FileHandle): Promise<readonly PageRun[]> {
  const runs: PageRun[] = [];
  const zero = Buffer.alloc(PAGE_BYTES);
  const bytes = Buffer.from(from.buffer, from.byteOffset, from.length);
  const pages = Math.ceil(bytes.length / PAGE_BYTES);
  const isZero = (page: number): boolean => {
    const start = page * PAGE_BYTES;
    const end = Math.min(start + PAGE_BYTES, bytes.length);
    return bytes.compare(zero, 0, end - start, start, end) === 0;
  };
  let pause = PAGES_PER_TURN;
  for (let first = 0; first < pages; ) {
    if (first >= pause) {
      pause = first + PAGES_PER_TURN;
      await nextTurn();
    }
    if (isZero(first)) {
      first++;
      continue;
    }
    let end = first + 1;
    while (end < pages && end - first < MOST_PAGES_PER_RUN && !isZero(end)) end++;
    const piece = bytes.subarray(first * PAGE_BYTES, Math.min(end * PAGE_BYTES, bytes.length));
    runs.push([first, end - first, crc32(piece)]);
    for (let done = 0; done < piece.length; ) done += (await file.write(piece, done)).bytesWritten;
    first = end;
  }
  return runs;
}

/** Reads pages where they were saved, each run checked, from a position of the file on. */
export class PageReader {
  readonly #file: FileHandle;
  readonly #directory: string;
  #position = 0;

  /** @param directory the snapshot's, for messages */
  constructor(file: FileHandle, directory: string) {
    this.#file = file;
    this.#directory = directory;
  }

  /** Into memory that is all zeros. Throws `RestoreError` where the file ends early or a checksum is wrong. */
  async read(
    runs: readonly PageRun[],
    into: Uint8Array,
    onRead: (offset: number, length: number) => void,
  ): Promise<void> {
    for (const run of runs) {
      const { offset, length } = rangeOf(run, into.length);
      await this.#readRun(run, into.subarray(offset, offset + length));
      onRead(offset, length);
    }
  }

  /** In the place of what is there, checked before. Throws as `read` does. */
  async replace(runs: readonly PageRun[], pages: ReplacedPages): Promise<void> {
    const piece = new Uint8Array(MOST_PAGES_PER_RUN * PAGE_BYTES);
    let end = 0;
    for (const run of runs) {
      const { offset, length } = rangeOf(run, pages.length);
      const saved = piece.subarray(0, length);
      await this.#readRun(run, saved);
      await pages.clear(end, offset);
      pages.replace(offset, saved);
      end = offset + length;
    }
    await pages.clear(end, pages.length);
  }

  async #readRun([, , checksum]: PageRun, into: Uint8Array): Promise<void> {
    const start = this.#position;
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await this.#file.read(into, done, into.length - done, start + done);
      if (bytesRead === 0) throw new RestoreError(this.#directory, `${PAGES_FILE} ends early`);
      done += bytesRead;
    }
    if (crc32(into) !== checksum) {
      throw new RestoreError(this.#directory, `${PAGES_FILE} is damaged: wrong checksum at byte ${start}`);
    }
    this.#position += into.length;
  }
}
