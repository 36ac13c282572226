/** Parts that one vectored call of the host takes (IOV_MAX). */
const MOST_PARTS = 1024;

/** A vectored call of `node:fs`, in both its forms. */
export interface Transfer {
  readonly now: (fd: number, parts: readonly Uint8Array[], position: number) => number;
  readonly later: (
    fd: number,
    parts: readonly Uint8Array[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
  ) => void;
}

/** Bytes of all parts. */
export function byteLength(parts: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
}

/** Moves all of the parts, however the host cuts them. Throws the host's error, or that the file ends. */
export function transferAllNow(
  { now }: Transfer,
  fd: number,
  offset: number,
  parts: readonly Uint8Array[],
): void {
  let rest = parts;
  let at = offset;
  for (let left = byteLength(parts); left > 0; ) {
    const bytes = now(fd, firstOf(rest), at);
    if (bytes === left) return;
    if (bytes === 0) throw new Error(`the file ends at ${at}`);
    left -= bytes;
    at += bytes;
    rest = behind(rest, bytes);
  }
}

/** The same on Node's thread pool. Rejects. */
export function transferAll(
  { later }: Transfer,
  fd: number,
  offset: number,
  parts: readonly Uint8Array[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (at: number, rest: readonly Uint8Array[], left: number): void => {
      if (left === 0) {
        resolve();
        return;
      }
      later(fd, firstOf(rest), at, (error, bytes) => {
        if (error !== null) reject(error);
        else if (bytes === 0) reject(new Error(`the file ends at ${at}`));
        else step(at + bytes, behind(rest, bytes), left - bytes);
      });
    };
    step(offset, parts, byteLength(parts));
  });
}

const firstOf = (parts: readonly Uint8Array[]): readonly Uint8Array[] =>
  parts.length > MOST_PARTS ? parts.slice(0, MOST_PARTS) : parts;

/** What is left of the parts behind their first `bytes`. */
function behind(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes;
  let index = 0;
  for (; index < parts.length; index++) {
    const length = parts[index]?.length ?? 0;
    if (skip < length) break;
    skip -= length;
  }
  const first = parts[index];
  return first === undefined ? [] : [first.subarray(skip), ...parts.slice(index + 1)];
}
