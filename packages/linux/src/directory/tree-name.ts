import { Errno } from "./errno.ts";

export const NAME_MAX = 255;
const SLASH = 0x2f;
const DOT = 0x2e;

/** Why a name is none: not one step down. 0, or a negative errno. */
export function nameFault(name: Uint8Array): number {
  const { length } = name;
  if (length > NAME_MAX) return -Errno.ENAMETOOLONG;
  const isDots = (length === 1 && name[0] === DOT) || (length === 2 && name[0] === DOT && name[1] === DOT);
  return length === 0 || isDots || name.includes(SLASH) || name.includes(0) ? -Errno.EINVAL : 0;
}
