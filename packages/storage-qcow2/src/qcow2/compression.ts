import { promisify } from "node:util";
import {
  constants,
  deflateRaw,
  deflateRawSync,
  inflateRawSync,
  type ZlibOptions,
  type ZstdOptions,
  zstdCompress,
  zstdCompressSync,
  zstdDecompressSync,
} from "node:zlib";
import { CompressionType } from "./spec.ts";

/** Thrown by {@link decompress}; the image says which cluster. */
export class DecompressionError extends Error {
  override readonly name = "DecompressionError";
}

/**
 * Inflates one cluster. `input` may have any bytes behind the compressed stream: its length is known in sectors only.
 * @throws {@link DecompressionError} unless the stream holds at least `size` bytes
 */
export function decompress(type: number, input: Uint8Array, size: number): Uint8Array {
  let output: Uint8Array;
  try {
    output =
      type === CompressionType.ZSTD
        ? zstdDecompressSync(input.subarray(0, zstdFrameLength(input)), { maxOutputLength: size })
        : inflateRawSync(input, { maxOutputLength: size, finishFlush: constants.Z_SYNC_FLUSH });
  } catch (error) {
    throw new DecompressionError(error instanceof Error ? error.message : String(error), { cause: error });
  }
  if (output.length !== size) throw new DecompressionError(`expected ${size} bytes, found ${output.length}`);
  return output;
}

/** Deflates with a window of 4 KiB, which is all that a reader must offer, or makes one zstd frame. */
export function compress(type: number, input: Uint8Array): Uint8Array {
  return type === CompressionType.ZSTD
    ? zstdCompressSync(input, zstdOptions(input))
    : deflateRawSync(input, deflateOptions(input));
}

/** One output buffer that takes what does not compress at all, and tables no larger than the input needs. */
const zstdOptions = (input: Uint8Array): ZstdOptions & { readonly pledgedSrcSize: number } => ({
  chunkSize: input.length + 1024,
  pledgedSrcSize: input.length,
});

const deflateOptions = (input: Uint8Array): ZlibOptions => ({
  windowBits: 12,
  chunkSize: input.length + 1024,
});

/** As {@link compress}, on Node's pool of threads. */
export function compressAsync(type: number, input: Uint8Array): Promise<Uint8Array> {
  return type === CompressionType.ZSTD
    ? zstdAsync(input, zstdOptions(input))
    : deflateAsync(input, deflateOptions(input));
}

const zstdAsync: (input: Uint8Array, options: ZstdOptions) => Promise<Uint8Array> = promisify(zstdCompress);
const deflateAsync: (input: Uint8Array, options: ZlibOptions) => Promise<Uint8Array> = promisify(deflateRaw);

/** Length of the first frame (RFC 8878 §3.1.1): Node's decoder refuses what follows it. */
function zstdFrameLength(input: Uint8Array): number {
  const at = (index: number): number => {
    const byte = input[index];
    if (byte === undefined) throw new DecompressionError("the zstd frame ends early");
    return byte;
  };
  if (at(0) !== 0x28 || at(1) !== 0xb5 || at(2) !== 0x2f || at(3) !== 0xfd) {
    throw new DecompressionError("not a zstd frame");
  }
  const descriptor = at(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6] ?? 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let position = 5 + (singleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (;;) {
    const block = at(position) | (at(position + 1) << 8) | (at(position + 2) << 16);
    const type = (block >>> 1) & 3;
    position += 3 + (type === 1 ? 1 : block >>> 3);
    if ((block & 1) !== 0) break;
  }
  position += (descriptor & 4) !== 0 ? 4 : 0;
  if (position > input.length) throw new DecompressionError("the zstd frame ends early");
  return position;
}
