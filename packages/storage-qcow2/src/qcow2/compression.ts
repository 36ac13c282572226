import { availableParallelism } from "node:os";
import { promisify } from "node:util";
import {
  constants,
  createZstdCompress,
  deflateRaw,
  deflateRawSync,
  inflateRawSync,
  type ZlibOptions,
  type ZstdCompress,
  type ZstdOptions,
  zstdCompressSync,
  zstdDecompressSync,
} from "node:zlib";
import { CompressionType } from "./spec.ts";

/** Thrown by {@link decompress}; the image says which cluster. */
export class DecompressionError extends Error {
  override readonly name = "DecompressionError";
}

/** What a decoder should offer to a frame (RFC 8878 §3.1.1.1.2): 8 MiB, and a hostile one can have no more. */
const MAX_ZSTD_WINDOW_LOG = 23;

/**
 * Inflates one cluster. `input` may have any bytes behind the compressed stream: its length is known in sectors only.
 * @throws {@link DecompressionError} unless the stream holds at least `size` bytes
 */
export function decompress(type: number, input: Uint8Array, size: number): Uint8Array {
  let output: Uint8Array;
  try {
    output =
      type === CompressionType.ZSTD
        ? zstdDecompressSync(input.subarray(0, zstdFrameLength(input)), {
            maxOutputLength: size,
            params: { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
          })
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

/** Compresses clusters on Node's pool of threads, several at the same time. */
export class Compressor {
  readonly #encoders: readonly ZstdEncoder[];
  #next = 0;

  /** @param type a {@link CompressionType} */
  constructor(type: number, clusterSize: number) {
    const encoders = type === CompressionType.ZSTD ? Math.min(4, availableParallelism()) : 0;
    this.#encoders = Array.from({ length: encoders }, () => new ZstdEncoder(clusterSize));
  }

  /** As {@link compress}. `input` must stay as it is until this resolves. */
  pack(input: Uint8Array): Promise<Uint8Array> {
    const encoder = this.#encoders[this.#next++ % Math.max(1, this.#encoders.length)];
    return encoder?.pack(input) ?? deflateAsync(input, deflateOptions(input));
  }

  close(): void {
    for (const encoder of this.#encoders) encoder.close();
  }
}

const deflateAsync: (input: Uint8Array, options: ZlibOptions) => Promise<Uint8Array> = promisify(deflateRaw);

/** An encoder for one frame after the other: making one anew for each cluster costs as much as the compression. */
class ZstdEncoder {
  readonly #stream: ZstdCompress;
  readonly #output: Uint8Array[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(clusterSize: number) {
    this.#stream = createZstdCompress({
      chunkSize: clusterSize + 1024,
      // No table need be larger than the input.
      params: { [constants.ZSTD_c_windowLog]: Math.max(10, Math.ceil(Math.log2(clusterSize))) },
    });
    this.#stream.on("data", (part: Uint8Array) => this.#output.push(part));
  }

  pack(input: Uint8Array): Promise<Uint8Array> {
    const packed = this.#last.then(() => this.#frame(input));
    this.#last = packed.catch(() => undefined);
    return packed;
  }

  async #frame(input: Uint8Array): Promise<Uint8Array> {
    await new Promise<void>((resolve, reject) => {
      this.#stream.once("error", reject);
      this.#stream.write(input);
      this.#stream.flush(constants.ZSTD_e_end, () => {
        this.#stream.off("error", reject);
        resolve();
      });
    });
    const frame = Buffer.concat(this.#output);
    this.#output.length = 0;
    return frame;
  }

  close(): void {
    this.#stream.destroy();
  }
}

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
