import type { BlockBackend } from "@northbridge/sdk";

const CHUNK = 1 << 20;

/** Makes whole blocks read as zeroes, also on a disk that has no request for it. */
export async function zeroRange(
  disk: BlockBackend,
  offset: number,
  length: number,
  mayUnmap: boolean,
): Promise<void> {
  if (disk.writeZeroes !== undefined) {
    await disk.writeZeroes(offset, length, mayUnmap);
    return;
  }
  const zeroes = new Uint8Array(Math.min(CHUNK, length));
  for (let done = 0; done < length; done += zeroes.length)
    await disk.write(offset + done, [zeroes.subarray(0, length - done)]);
}
