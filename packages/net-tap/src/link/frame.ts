/** Bytes of a frame that comes in parts. */
export function lengthOf(frame: readonly Uint8Array[]): number {
  let length = 0;
  for (const part of frame) length += part.length;
  return length;
}

/** Copies a frame that comes in parts to `into[at…]`, as far as it has room. Bytes copied. */
export function gather(frame: readonly Uint8Array[], into: Uint8Array, at: number): number {
  let end = at;
  for (const part of frame) {
    const fitting = part.length <= into.length - end ? part : part.subarray(0, into.length - end);
    into.set(fitting, end);
    end += fitting.length;
  }
  return end - at;
}
