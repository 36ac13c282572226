import { LONGEST_FRAME } from "../link/frame.ts";

const PREFIX = 4;

/**
 * Cuts a byte stream into frames, each behind its length in 32 bits, most significant first: what QEMU's `-netdev
 * stream` and passt speak. Holds one frame and one chunk at most.
 */
export class FrameReader {
  #held: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** Bytes that came and are no frame yet. */
  get heldBytes(): number {
    return this.#held.length - this.#at;
  }

  push(chunk: Uint8Array): void {
    if (this.heldBytes === 0) this.#held = chunk;
    else {
      const bytes = new Uint8Array(this.heldBytes + chunk.length);
      bytes.set(this.#held.subarray(this.#at));
      bytes.set(chunk, this.heldBytes);
      this.#held = bytes;
    }
    this.#at = 0;
  }

  /** The next whole frame, `undefined` where there is none, `"wrong"` where the stream is not one of frames. */
  peek(): Uint8Array | "wrong" | undefined {
    const bytes = this.#held;
    const at = this.#at;
    if (bytes.length - at < PREFIX) return undefined;
    const length =
      (bytes[at] ?? 0) * 2 ** 24 +
      (((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
    if (length === 0 || length > LONGEST_FRAME) return "wrong";
    return bytes.length - at - PREFIX < length
      ? undefined
      : bytes.subarray(at + PREFIX, at + PREFIX + length);
  }

  /** Goes past the frame that `peek` gave. */
  take(frame: Uint8Array): void {
    this.#at += PREFIX + frame.length;
  }
}

/** A frame in parts as the stream carries it, in one piece. */
export function framed(parts: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(PREFIX + length);
  new DataView(bytes.buffer).setUint32(0, length);
  let at = PREFIX;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
