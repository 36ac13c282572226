/** Recorded results of a real CPU, compressed. */
import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";

const pathOf = (name: string): URL => new URL(`../golden/${name}.br`, import.meta.url);

export function readGolden(name: string): Uint8Array {
  return new Uint8Array(brotliDecompressSync(readFileSync(pathOf(name))));
}

/** Writes a recording and returns its compressed size in bytes. */
export function writeGolden(name: string, records: Uint8Array): number {
  const compressed = brotliCompressSync(records, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 },
  });
  writeFileSync(pathOf(name), compressed);
  return compressed.length;
}
