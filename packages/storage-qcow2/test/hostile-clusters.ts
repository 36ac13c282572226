import { MemoryFile } from "../src/file/memory-file.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";

const CLUSTER = 65536;
/** Of the entry of a compressed cluster of 64 KiB (docs/interop/qcow2: Compressed Clusters Descriptor). */
const OFFSET_BITS = 62 - (16 - 8);
const COMPRESSED: bigint = 2n ** 62n;
/** Beside the first: as many as a cluster has. */
const SECTORS = 127n;

/** An image whose first cluster's compressed bytes are these, as many of them as a cluster has. */
export function withCompressed(compressionType: "zlib" | "zstd", packed: Uint8Array): MemoryFile {
  const file = new MemoryFile("bomb");
  createQcow2(file, { size: 1 << 20, clusterSize: CLUSTER, compressionType });
  const image = Qcow2Image.open(file);
  image.writeCompressedCluster(0, new Uint8Array(CLUSTER).fill(1));
  const l2 = image.meta.l2TableOffset(0);
  image.closeNow();
  const entry = new DataView(file.content().slice(l2, l2 + 8).buffer);
  const offset = entry.getBigUint64(0) & (2n ** BigInt(OFFSET_BITS) - 1n);
  entry.setBigUint64(0, COMPRESSED | (SECTORS << BigInt(OFFSET_BITS)) | offset);
  file.write(l2, new Uint8Array(entry.buffer));
  file.write(Number(offset), packed.subarray(0, CLUSTER));
  return file;
}

/** A zstd frame (RFC 8878): a window descriptor, and blocks of 128 KiB that are four bytes each. */
function frame(window: number, blocks: number): Uint8Array {
  const bytes = new Uint8Array(6 + 4 * blocks);
  bytes.set([0x28, 0xb5, 0x2f, 0xfd, 0, window]);
  for (let block = 0; block < blocks; block += 1) {
    const isLast = block === blocks - 1 ? 1 : 0;
    // RLE_Block (1) of 128 KiB.
    const head = isLast | (1 << 1) | (131072 << 3);
    bytes.set([head & 0xff, (head >> 8) & 0xff, head >> 16, 7], 6 + 4 * block);
  }
  return bytes;
}

/** 1.9 GiB of sevens in a cluster. */
export const ENDLESS_ZSTD: Uint8Array = frame(0x58, 16_000);

/** A frame that wants a window of 128 MiB: exponent 17. */
export const WIDE_ZSTD: Uint8Array = frame(0x88, 1);
