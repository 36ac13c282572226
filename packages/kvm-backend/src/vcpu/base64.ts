import { RestoreError } from "@northbridge/sdk";

/** Bytes as saved states have them. */
export const toBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

/** Throws `NB_RESTORE` where the text does not hold so many bytes. */
export function fromBase64(what: string, text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  if (bytes.length !== length)
    throw new RestoreError(what, `expected ${length} bytes of base64, found ${bytes.length}`);
  return bytes;
}
