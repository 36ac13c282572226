import { ImageError } from "../image-error.ts";
import {
  DIGEST_BYTES,
  HEADER_BYTES,
  KEY_SLOTS,
  KeySlot,
  LUKS_MAGIC,
  LUKS_VERSION,
  NAME_BYTES,
  Phdr,
  SALT_BYTES,
  SECTOR,
  SLOT_DISABLED,
  SLOT_ENABLED,
  UUID_BYTES,
} from "./spec.ts";

/** A place for the master key, encrypted with what comes of one passphrase. */
export interface LuksSlot {
  readonly isActive: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Bytes from the header's start. */
  readonly keyOffset: number;
  readonly stripes: number;
}

/** The header of LUKS1 (LUKS 1.2.3 §2.2, `luks_phdr`). */
export interface LuksHeader {
  readonly cipherName: string;
  readonly cipherMode: string;
  readonly hash: string;
  /** Bytes; inside a qcow2 image it says how long header and slots are. */
  readonly payloadOffset: number;
  readonly keyBytes: number;
  readonly digest: Uint8Array;
  readonly digestSalt: Uint8Array;
  readonly digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly LuksSlot[];
}

/** More would keep whoever opens a hostile image busy for hours. */
export const MAX_ITERATIONS: number = 2 ** 25;
const MAX_KEY_BYTES = 64;
const MAX_STRIPES = 10_000;

/**
 * Parses the header.
 * @param bytes what stands at the place that the image names, of which key slots must lie inside
 * @throws {@link ImageError} naming the field
 */
export function decodeLuksHeader(bytes: Uint8Array, path: string): LuksHeader {
  const expect = (holds: boolean, message: string): void => {
    if (!holds) throw new ImageError(path, "invalid", `LUKS header: ${message}`);
  };
  expect(
    bytes.length >= HEADER_BYTES && LUKS_MAGIC.every((byte, at) => bytes[at] === byte),
    "the magic is missing",
  );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(Phdr.VERSION);
  expect(version === LUKS_VERSION, `expected version 1, found ${version}`);
  const text = (at: number, length: number): string => {
    const field = bytes.subarray(at, at + length);
    const end = field.indexOf(0);
    return new TextDecoder("latin1").decode(end < 0 ? field : field.subarray(0, end));
  };
  const keyBytes = view.getUint32(Phdr.KEY_BYTES);
  expect(
    keyBytes > 0 && keyBytes <= MAX_KEY_BYTES,
    `key-bytes: expected 1 to ${MAX_KEY_BYTES}, found ${keyBytes}`,
  );
  const iterations = (at: number): number => {
    const count = view.getUint32(at);
    expect(
      count > 0 && count <= MAX_ITERATIONS,
      `iterations: expected 1 to ${MAX_ITERATIONS}, found ${count}`,
    );
    return count;
  };
  const slots: LuksSlot[] = [];
  for (let index = 0; index < KEY_SLOTS; index += 1) {
    const at = Phdr.KEY_SLOTS + index * KeySlot.LENGTH;
    const isActive = view.getUint32(at + KeySlot.ACTIVE) === SLOT_ENABLED;
    const keyOffset = view.getUint32(at + KeySlot.KEY_MATERIAL_OFFSET) * SECTOR;
    const stripes = view.getUint32(at + KeySlot.STRIPES);
    if (isActive) {
      expect(
        stripes > 1 && stripes <= MAX_STRIPES,
        `slot ${index}: expected 2 to ${MAX_STRIPES} stripes, found ${stripes}`,
      );
      expect(
        keyOffset >= HEADER_BYTES && keyOffset + keyBytes * stripes <= bytes.length,
        `slot ${index}: its key at ${keyOffset} does not lie inside the header's ${bytes.length} bytes`,
      );
    }
    slots.push({
      isActive,
      iterations: isActive ? iterations(at + KeySlot.ITERATIONS) : 0,
      salt: bytes.slice(at + KeySlot.SALT, at + KeySlot.SALT + SALT_BYTES),
      keyOffset,
      stripes,
    });
  }
  return {
    cipherName: text(Phdr.CIPHER_NAME, NAME_BYTES),
    cipherMode: text(Phdr.CIPHER_MODE, NAME_BYTES),
    hash: text(Phdr.HASH_SPEC, NAME_BYTES),
    payloadOffset: view.getUint32(Phdr.PAYLOAD_OFFSET) * SECTOR,
    keyBytes,
    digest: bytes.slice(Phdr.MK_DIGEST, Phdr.MK_DIGEST + DIGEST_BYTES),
    digestSalt: bytes.slice(Phdr.MK_DIGEST_SALT, Phdr.MK_DIGEST_SALT + SALT_BYTES),
    digestIterations: iterations(Phdr.MK_DIGEST_ITERATIONS),
    uuid: text(Phdr.UUID, UUID_BYTES),
    slots,
  };
}

/** Writes the header's fields into the first bytes of `into`. */
export function encodeLuksHeader(header: LuksHeader, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  const text = (at: number, value: string): void => into.set(new TextEncoder().encode(value), at);
  into.set(LUKS_MAGIC);
  view.setUint16(Phdr.VERSION, LUKS_VERSION);
  text(Phdr.CIPHER_NAME, header.cipherName);
  text(Phdr.CIPHER_MODE, header.cipherMode);
  text(Phdr.HASH_SPEC, header.hash);
  view.setUint32(Phdr.PAYLOAD_OFFSET, header.payloadOffset / SECTOR);
  view.setUint32(Phdr.KEY_BYTES, header.keyBytes);
  into.set(header.digest, Phdr.MK_DIGEST);
  into.set(header.digestSalt, Phdr.MK_DIGEST_SALT);
  view.setUint32(Phdr.MK_DIGEST_ITERATIONS, header.digestIterations);
  text(Phdr.UUID, header.uuid);
  for (const [index, slot] of header.slots.entries()) {
    const at = Phdr.KEY_SLOTS + index * KeySlot.LENGTH;
    view.setUint32(at + KeySlot.ACTIVE, slot.isActive ? SLOT_ENABLED : SLOT_DISABLED);
    view.setUint32(at + KeySlot.ITERATIONS, slot.iterations);
    into.set(slot.salt, at + KeySlot.SALT);
    view.setUint32(at + KeySlot.KEY_MATERIAL_OFFSET, slot.keyOffset / SECTOR);
    view.setUint32(at + KeySlot.STRIPES, slot.stripes);
  }
}
