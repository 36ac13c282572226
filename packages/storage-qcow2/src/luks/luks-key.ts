import { pbkdf2Sync, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import { ImageError } from "../image-error.ts";
import { HASHES, merge, split } from "./anti-forensic.ts";
import {
  decodeLuksHeader,
  encodeLuksHeader,
  type LuksHeader,
  type LuksSlot,
  MAX_ITERATIONS,
} from "./luks-header.ts";
import { SectorCipher, UnknownCipherError } from "./sector-cipher.ts";
import { ALIGN_KEY_SLOTS, DIGEST_BYTES, KEY_SLOTS, SALT_BYTES, SECTOR, STRIPES } from "./spec.ts";

/** How a new LUKS header encrypts; the defaults are qemu-img's: AES-256, XTS, plain64, SHA-256. */
export interface LuksOptions {
  readonly passphrase: Uint8Array;
  /** Key bits of AES. */
  readonly cipherBits?: 128 | 256;
  readonly cipherMode?: "xts" | "cbc";
  readonly ivGenerator?: "plain64" | "plain" | "essiv";
  /** For `essiv`. */
  readonly ivHash?: string;
  readonly hash?: string;
  /** Milliseconds of this host that it shall take to try a passphrase. 2000 by default. */
  readonly iterationMs?: number;
}

/**
 * Has the disk's key by a passphrase, tried on every slot (LUKS 1.2.3 §4.2).
 * @param bytes header and key slots
 * @throws {@link ImageError}: an unknown cipher, or a passphrase that opens no slot
 */
export function unlockLuks(bytes: Uint8Array, passphrase: Uint8Array, path: string): SectorCipher {
  const header = decodeLuksHeader(bytes, path);
  const { hash, keyBytes, digestSalt, digestIterations } = header;
  if (!HASHES.includes(hash)) {
    throw new ImageError(path, "unsupported", `LUKS hash: expected ${HASHES.join(", ")}, found '${hash}'`);
  }
  for (const { isActive, salt, iterations, keyOffset, stripes } of header.slots) {
    if (!isActive) continue;
    const material = wholeSectors(bytes.subarray(keyOffset), keyBytes * stripes);
    const slotKey = pbkdf2Sync(passphrase, salt, iterations, keyBytes, hash);
    cipherOf(header, slotKey, path).decrypt(0, material);
    const key = merge(material.subarray(0, keyBytes * stripes), stripes, hash);
    const digest = pbkdf2Sync(key, digestSalt, digestIterations, DIGEST_BYTES, hash);
    if (timingSafeEqual(digest, header.digest)) return cipherOf(header, key, path);
  }
  throw new ImageError(path, "request", "the image is encrypted, and the secret is not its passphrase");
}

/** A header with key slots for a new key, which the passphrase opens through the first slot (LUKS 1.2.3 §4.1). */
export function formatLuks(options: LuksOptions, path: string): Uint8Array {
  const {
    passphrase,
    cipherBits = 256,
    cipherMode = "xts",
    ivGenerator = "plain64",
    hash = "sha256",
  } = options;
  if (!HASHES.includes(hash)) {
    throw new ImageError(path, "request", `encrypt.hash-alg: expected ${HASHES.join(", ")}, found '${hash}'`);
  }
  const keyBytes = (cipherBits / 8) * (cipherMode === "xts" ? 2 : 1);
  const slotBytes = Math.ceil((keyBytes * STRIPES) / ALIGN_KEY_SLOTS) * ALIGN_KEY_SLOTS;
  const bytes = new Uint8Array(ALIGN_KEY_SLOTS + KEY_SLOTS * slotBytes);
  const key = randomBytes(keyBytes);
  const iterations = iterationsWithin(options.iterationMs ?? 2000, keyBytes, hash);
  const slots = Array.from({ length: KEY_SLOTS }, (_, index): LuksSlot => {
    const keyOffset = ALIGN_KEY_SLOTS + index * slotBytes;
    return index === 0
      ? { isActive: true, iterations, salt: randomBytes(SALT_BYTES), keyOffset, stripes: STRIPES }
      : { isActive: false, iterations: 0, salt: new Uint8Array(SALT_BYTES), keyOffset, stripes: STRIPES };
  });
  const digestSalt = randomBytes(SALT_BYTES);
  // The digest gives a guess of the key away, which is random: an eighth of the effort is QEMU's and cryptsetup's.
  const digestIterations = Math.max(1000, Math.floor(iterations / 8));
  const header: LuksHeader = {
    cipherName: "aes",
    cipherMode: `${cipherMode}-${ivGenerator}${ivGenerator === "essiv" ? `:${options.ivHash ?? "sha256"}` : ""}`,
    hash,
    payloadOffset: bytes.length,
    keyBytes,
    digest: pbkdf2Sync(key, digestSalt, digestIterations, DIGEST_BYTES, hash),
    digestSalt,
    digestIterations,
    uuid: randomUUID(),
    slots,
  };
  cipherOf(header, key, path);
  encodeLuksHeader(header, bytes);
  const [first] = slots;
  if (first === undefined) throw new ImageError(path, "invalid", "LUKS: no key slot");
  const material = wholeSectors(split(key, STRIPES, hash), keyBytes * STRIPES);
  const slotKey = pbkdf2Sync(passphrase, first.salt, iterations, keyBytes, hash);
  cipherOf(header, slotKey, path).encrypt(0, material, bytes.subarray(first.keyOffset));
  return bytes;
}

/** Bytes of a header with slots, as {@link formatLuks} makes it. */
export function luksBytes(options: Omit<LuksOptions, "passphrase">): number {
  const keyBytes = ((options.cipherBits ?? 256) / 8) * ((options.cipherMode ?? "xts") === "xts" ? 2 : 1);
  return ALIGN_KEY_SLOTS + KEY_SLOTS * Math.ceil((keyBytes * STRIPES) / ALIGN_KEY_SLOTS) * ALIGN_KEY_SLOTS;
}

function cipherOf({ cipherName, cipherMode }: LuksHeader, key: Uint8Array, path: string): SectorCipher {
  try {
    return new SectorCipher({ name: cipherName, mode: cipherMode }, key);
  } catch (error) {
    if (!(error instanceof UnknownCipherError)) throw error;
    throw new ImageError(
      path,
      "unsupported",
      `LUKS cipher: expected AES in XTS or CBC, found ${error.message}`,
      {
        cause: error,
      },
    );
  }
}

function wholeSectors(from: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(length / SECTOR) * SECTOR);
  bytes.set(from.subarray(0, bytes.length));
  return bytes;
}

/** As many rounds of PBKDF2 as this host does in the time, at least 1000. */
function iterationsWithin(ms: number, keyBytes: number, hash: string): number {
  for (let probe = 4096; ; probe *= 4) {
    const begun = performance.now();
    pbkdf2Sync("passphrase", "salt", probe, keyBytes, hash);
    const took = performance.now() - begun;
    if (took < 20 && probe < 2 ** 24) continue;
    return Math.max(1000, Math.min(MAX_ITERATIONS, Math.floor((probe * ms) / took)));
  }
}
