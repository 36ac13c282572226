/** Unpacks xz as {@link unpackXzParts}, into one piece. */
export async function unpackXz(packed: Uint8Array, maxLength: number): Promise<Uint8Array> {
  return Buffer.concat(await unpackXzParts(packed, maxLength));
}

/**
 * Unpacks xz, with the x86 filter that kernels are packed with, or LZMA. Throws an Error for damaged data and where
 * the result would be longer than `maxLength`.
 */
export async function unpackXzParts(packed: Uint8Array, maxLength: number): Promise<Uint8Array[]> {
  const { default: lzma } = await import("lzma-native");
  const decoder = lzma.createDecompressor();
  decoder.end(packed);
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of decoder as AsyncIterable<Uint8Array>) {
    length += part.length;
    if (length > maxLength) throw new Error(`more than ${maxLength} bytes`);
    parts.push(part);
  }
  return parts;
}
