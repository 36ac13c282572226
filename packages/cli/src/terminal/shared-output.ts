import { fstatSync } from "node:fs";

/** A stream as far as it may have a descriptor: a test's has none. */
interface MaybeFile {
  readonly isTTY?: boolean;
  readonly fd?: number | undefined;
}

/** Whether what is written to the one stands behind what was written to the other: one terminal, file or pipe (`2>&1`). */
export function isSharedOutput(one: MaybeFile, other: MaybeFile): boolean {
  if (one.isTTY === true && other.isTTY === true) return true;
  if (one.fd === undefined || other.fd === undefined) return false;
  const [a, b] = [fstatSync(one.fd), fstatSync(other.fd)];
  return a.dev === b.dev && a.ino === b.ino && !a.isCharacterDevice();
}
