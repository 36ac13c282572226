import { NorthbridgeError } from "../contracts/index.ts";

/** An `NB_BOOT_IMAGE` error in the one form all of them have: file, expected, found. */
export function bootImageError(
  file: string,
  expected: string,
  found: string,
  options?: ErrorOptions,
): NorthbridgeError {
  return new NorthbridgeError("NB_BOOT_IMAGE", `${file}: expected ${expected}, found ${found}`, options);
}

/** What a file that is no kernel looks like, for the message that says so. */
export function describeBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return "an empty file";
  const known = KNOWN_FILES.find(({ magic }) => magic.every((byte, index) => bytes[index] === byte));
  if (known !== undefined) return known.name;
  const start = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `${bytes.length} bytes that begin with ${start}`;
}

const KNOWN_FILES: readonly { readonly name: string; readonly magic: readonly number[] }[] = [
  { name: "a gzip file", magic: [0x1f, 0x8b] },
  { name: "an xz file", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { name: "a zstd file", magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { name: "a qcow2 image", magic: [0x51, 0x46, 0x49, 0xfb] },
  { name: "a Debian package", magic: [0x21, 0x3c, 0x61, 0x72, 0x63, 0x68, 0x3e] },
  { name: "a cpio archive", magic: [0x30, 0x37, 0x30, 0x37, 0x30] },
  { name: "a script", magic: [0x23, 0x21] },
];
