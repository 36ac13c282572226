import { createCipheriv, createDecipheriv, createHash, createSecretKey, type KeyObject } from "node:crypto";
import { HASHES } from "./anti-forensic.ts";
import { SECTOR } from "./spec.ts";

/** What encrypts a disk: `aes`, `xts`, `plain64`. */
export interface CipherSpec {
  /** `aes`. */
  readonly name: string;
  /** `xts-plain64`, `cbc-essiv:sha256` … */
  readonly mode: string;
}

/** Ciphers that are not there. */
export class UnknownCipherError extends Error {
  override readonly name = "UnknownCipherError";
}

/**
 * Encrypts and decrypts sectors of 512 bytes, each by its number (LUKS 1.2.3 §3; dm-crypt's `plain`, `plain64` and
 * `essiv` initialisation vectors).
 */
export class SectorCipher {
  readonly #algorithm: string;
  readonly #key: KeyObject;
  readonly #essiv: KeyObject | undefined;
  readonly #essivAlgorithm: string;
  /** The vector has 64 bits of the sector's number, and not 32. */
  readonly #isWide: boolean;
  readonly #iv = new Uint8Array(16);
  readonly #ivView = new DataView(this.#iv.buffer);

  /** @throws {@link UnknownCipherError} */
  constructor(spec: CipherSpec, key: Uint8Array) {
    const match = /^(xts|cbc)-(plain64|plain|essiv):?(\w*)$/.exec(spec.mode);
    const [, mode = "", generator = "", hash = ""] = match ?? [];
    const bits = (mode === "xts" ? key.length / 2 : key.length) * 8;
    const isKnown =
      spec.name === "aes" &&
      match !== null &&
      (bits === 128 || bits === 256) &&
      (generator === "essiv" ? HASHES.includes(hash) : hash === "");
    if (!isKnown) {
      throw new UnknownCipherError(`${spec.name}-${spec.mode} with a key of ${key.length} bytes`);
    }
    this.#algorithm = `aes-${bits}-${mode}`;
    this.#key = createSecretKey(key);
    this.#isWide = generator !== "plain";
    const digest = generator === "essiv" ? createHash(hash).update(key).digest() : undefined;
    this.#essiv = digest && createSecretKey(digest);
    this.#essivAlgorithm = `aes-${(digest?.length ?? 0) * 8}-ecb`;
  }

  /** Encrypts whole sectors, the first of which has the number `sector`, into `to`. */
  encrypt(sector: number, from: Uint8Array, to: Uint8Array): void {
    for (let at = 0; at < from.length; at += SECTOR) {
      const cipher = createCipheriv(this.#algorithm, this.#key, this.#vectorOf(sector + at / SECTOR));
      to.set(cipher.update(from.subarray(at, at + SECTOR)), at);
    }
  }

  /** Decrypts whole sectors in place. */
  decrypt(sector: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const cipher = createDecipheriv(this.#algorithm, this.#key, this.#vectorOf(sector + at / SECTOR));
      cipher.setAutoPadding(false);
      bytes.set(cipher.update(bytes.subarray(at, at + SECTOR)), at);
    }
  }

  #vectorOf(sector: number): Uint8Array {
    this.#ivView.setUint32(0, sector >>> 0, true);
    this.#ivView.setUint32(4, this.#isWide ? Math.floor(sector / 2 ** 32) : 0, true);
    if (this.#essiv === undefined) return this.#iv;
    // A cipher of the digest's own key length; one without a vector cannot be kept, since updates would chain.
    const cipher = createCipheriv(this.#essivAlgorithm, this.#essiv, null);
    return cipher.update(this.#iv);
  }
}
