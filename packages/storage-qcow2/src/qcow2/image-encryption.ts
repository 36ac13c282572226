import type { BlockFile } from "../file/block-file.ts";
import { unlockLuks } from "../luks/luks-key.ts";
import { luksRange, type Qcow2Header } from "./header.ts";
import type { DataEncryption } from "./metadata.ts";

/** What an image may be unlocked with. */
export interface ImageKeys {
  readonly passphrase?: Uint8Array;
  /** An image that is open, whose key is taken where the two have the same LUKS header. */
  readonly encryptedAs?: {
    readonly luksHeader: Uint8Array | undefined;
    readonly meta: { readonly encryption: DataEncryption };
  };
}

/** Header and key slots of LUKS, as they stand in the file. */
export function readLuks(header: Qcow2Header, file: BlockFile): Uint8Array {
  const range = luksRange(header);
  const bytes = new Uint8Array(range?.length ?? 0);
  file.read(range?.offset ?? 0, bytes);
  return bytes;
}

/** How the data of an image are encrypted: `locked` where it takes a passphrase that nobody gave. */
export function encryptionOf(
  header: Qcow2Header,
  file: BlockFile,
  { passphrase, encryptedAs }: ImageKeys,
): DataEncryption {
  if (luksRange(header) === undefined) return "none";
  const luks = readLuks(header, file);
  if (encryptedAs?.luksHeader !== undefined && Buffer.compare(luks, encryptedAs.luksHeader) === 0)
    return encryptedAs.meta.encryption;
  return passphrase === undefined ? "locked" : unlockLuks(luks, passphrase, file.path);
}
