import { createHash, randomBytes } from "node:crypto";

/**
 * Splits a key into stripes, of which all are needed to have it again (LUKS 1.2.3 §2.4, AFsplit).
 * @param hash as OpenSSL names it
 */
export function split(key: Uint8Array, stripes: number, hash: string): Uint8Array {
  const material = new Uint8Array(key.length * stripes);
  material.set(randomBytes(key.length * (stripes - 1)));
  const last = material.subarray(key.length * (stripes - 1));
  last.set(folded(material, key.length, stripes, hash));
  xorInto(last, key);
  return material;
}

/** The key of which these are all the stripes (LUKS 1.2.3 §2.4, AFmerge). */
export function merge(material: Uint8Array, stripes: number, hash: string): Uint8Array {
  const length = material.length / stripes;
  const key = folded(material, length, stripes, hash);
  xorInto(key, material.subarray(length * (stripes - 1)));
  return key;
}

/** All stripes but the last, each one mixed into the diffusion of those before. */
function folded(material: Uint8Array, length: number, stripes: number, hash: string): Uint8Array {
  let block: Uint8Array = new Uint8Array(length);
  for (let stripe = 0; stripe < stripes - 1; stripe += 1) {
    xorInto(block, material.subarray(stripe * length, (stripe + 1) * length));
    block = diffused(block, hash);
  }
  return block;
}

/** Each part of the length of a digest becomes the digest of its number and itself. */
function diffused(block: Uint8Array, hash: string): Uint8Array {
  const result = new Uint8Array(block.length);
  const number = new DataView(new ArrayBuffer(4));
  for (let at = 0, part = 0; at < block.length; part += 1) {
    number.setUint32(0, part);
    const left = block.length - at;
    const whole = createHash(hash).update(new Uint8Array(number.buffer));
    const size = DIGEST_LENGTH[hash] ?? left;
    const digest = whole.update(block.subarray(at, at + size)).digest();
    result.set(digest.subarray(0, Math.min(left, digest.length)), at);
    at += digest.length;
  }
  return result;
}

const DIGEST_LENGTH: Readonly<Record<string, number>> = {
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
};

/** Hashes that a header may name. */
export const HASHES: readonly string[] = Object.keys(DIGEST_LENGTH);

function xorInto(into: Uint8Array, other: Uint8Array): void {
  for (let index = 0; index < into.length; index += 1) into[index] = (into[index] ?? 0) ^ (other[index] ?? 0);
}
