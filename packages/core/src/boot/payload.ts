import { promisify } from "node:util";
import { gunzip, zstdDecompress } from "node:zlib";
import { ChunkedBytes } from "./chunked-bytes.ts";
import { bootImageError, describeBytes } from "./image-error.ts";
import { unpackXzParts } from "./xz.ts";

/** No kernel is larger; a file that says so is damaged, and must not make us allocate it. */
const LARGEST_KERNEL = 2 ** 30;
/** A kernel build appends the unpacked size (scripts/Makefile.lib, `size_append`); in gzip it is the ISIZE field. */
const SIZE_TRAILER = 4;

interface Format {
  readonly name: string;
  readonly magic: readonly number[];
  readonly unpack?: (payload: Uint8Array, size: number) => Promise<readonly Uint8Array[]>;
}

const FORMATS: readonly Format[] = [
  {
    name: "gzip",
    magic: [0x1f, 0x8b],
    unpack: async (payload, size) => [await promisify(gunzip)(payload, { maxOutputLength: size })],
  },
  {
    name: "zstd",
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    unpack: async (payload, size) => [
      await promisify(zstdDecompress)(payload.subarray(0, -SIZE_TRAILER), { maxOutputLength: size }),
    ],
  },
  { name: "LZ4", magic: [0x02, 0x21, 0x4c, 0x18], unpack: unpackLz4Legacy },
  { name: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], unpack: unpackTrailedXz },
  { name: "LZMA", magic: [0x5d, 0x00, 0x00], unpack: unpackTrailedXz },
  { name: "bzip2", magic: [0x42, 0x5a, 0x68] },
  { name: "LZO", magic: [0x89, 0x4c, 0x5a, 0x4f] },
];

/**
 * Unpacks the compressed ELF of a bzImage: LZ4 (legacy frame), zstd, gzip, xz, LZMA.
 * Throws `NB_BOOT_IMAGE` for bzip2 and LZO, which only the guest can unpack, and for damaged data.
 */
export async function unpackPayload(file: string, payload: Uint8Array): Promise<ChunkedBytes> {
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => payload[index] === byte));
  if (format === undefined || payload.length < 16) {
    throw bootImageError(file, "a compressed kernel in the bzImage", describeBytes(payload));
  }
  if (format.unpack === undefined) {
    throw bootImageError(
      file,
      "a payload in LZ4, zstd, gzip or xz",
      `${format.name}: set boot.protocol to bzimage, and the guest unpacks it`,
    );
  }
  const size = new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(
    payload.length - SIZE_TRAILER,
    true,
  );
  if (size === 0 || size > LARGEST_KERNEL) {
    throw bootImageError(file, "a kernel of at most 1 GiB", `one that unpacks to ${size} bytes`);
  }
  let unpacked: ChunkedBytes;
  try {
    unpacked = new ChunkedBytes(await format.unpack(payload, size));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw bootImageError(file, `a whole ${format.name} payload`, `damaged data (${reason})`, { cause });
  }
  if (unpacked.length !== size) {
    throw bootImageError(file, `a payload that unpacks to ${size} bytes`, `${unpacked.length}`);
  }
  return unpacked;
}

const LZ4_LEGACY_MAGIC = 0x184c_2102;
/** Blocks of the legacy frame unpack to 8 MiB each, the last one to less (lz4 Frame format, "Legacy frame"). */
const LZ4_LEGACY_BLOCK = 8 * 2 ** 20;

/** LZ4 legacy frame: a magic number, then blocks, each after its compressed length. */
async function unpackLz4Legacy(payload: Uint8Array, size: number): Promise<Uint8Array[]> {
  const { uncompress } = await import("lz4-napi");
  const data = new DataView(payload.buffer, payload.byteOffset, payload.length - SIZE_TRAILER);
  // One block at a time, and none copied: the unpacked kernel is never there twice.
  const blocks: Uint8Array[] = [];
  let filled = 0;
  for (let offset = 0; offset < data.byteLength; ) {
    const length = data.getUint32(offset, true);
    offset += 4;
    // Concatenated frames repeat the magic number.
    if (length === LZ4_LEGACY_MAGIC) continue;
    if (length > data.byteLength - offset) throw new Error(`a block of ${length} bytes is cut off`);
    // The library takes the unpacked size in front of the block.
    const prefixed = new Uint8Array(4 + length);
    new DataView(prefixed.buffer).setUint32(0, LZ4_LEGACY_BLOCK, true);
    prefixed.set(payload.subarray(offset, offset + length), 4);
    const block = await uncompress(prefixed);
    if (filled + block.length > size) throw new Error(`more than the ${size} bytes announced`);
    blocks.push(block);
    filled += block.length;
    offset += length;
  }
  return blocks;
}

function unpackTrailedXz(payload: Uint8Array, size: number): Promise<Uint8Array[]> {
  return unpackXzParts(payload.subarray(0, -SIZE_TRAILER), size);
}
