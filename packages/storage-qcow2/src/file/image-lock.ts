import { ImageError } from "../image-error.ts";
import { linuxCalls } from "./linux-calls.ts";

/**
 * Bytes of an image file whose locks say who does what with it, as QEMU's `file` driver has them: 100 + n is held by
 * whoever uses permission n, 200 + n by whoever does not let others use it.
 */
const USES = 100;
const FORBIDS = 200;

const Permission = { READ: 0, WRITE: 1, RESIZE: 3 } as const;

/** What an opener of an image lets others do meanwhile. */
export type Sharing =
  /** Others may read. For every image with metadata, and for one that somebody stands on. */
  | "readers"
  /** Others may write but not resize: a raw image that is only read. */
  | "writers"
  /** Others may do anything (qemu-img's `-U`): what is read may be torn. */
  | "anything";

let warned = false;

/**
 * Locks an open image file against writers beside us, ours or QEMU's (fcntl(2), open file description locks). The lock
 * lasts until the descriptor is closed. Where the host has no such locks, a warning of the process says so once.
 * @param isHandedOver another descriptor of this process has a lock that excludes all that this one does, and keeps it for
 * now: what others do was looked at when it was locked
 * @throws {@link ImageError} with fault `locked` where another process uses the image in a way that excludes ours
 */
export function lockImage(
  path: string,
  fd: number,
  writes: boolean,
  sharing: Sharing,
  isHandedOver = false,
): void {
  const calls = linuxCalls();
  if (calls === undefined) {
    warnOnce(path, "this host has no locks of open file descriptions");
    return;
  }
  const { uses, forbids } = claimsOf(writes, sharing);
  const { F_RDLCK, F_WRLCK } = calls.RangeLock;
  try {
    // First our own claims, then the look at those of others: of two that come at once at least one sees the other.
    for (const byte of bytesOf({ uses, forbids })) {
      if (!calls.setRangeLock(fd, F_RDLCK, byte, 1)) throw inUse(path, "its locks are held exclusively");
    }
    if (isHandedOver) return;
    for (const n of uses) {
      if (!calls.canLockRange(fd, F_WRLCK, FORBIDS + n, 1)) {
        throw inUse(path, `another process does not allow others to ${nameOf(n)}`);
      }
    }
    for (const n of forbids) {
      if (!calls.canLockRange(fd, F_WRLCK, USES + n, 1)) {
        throw inUse(path, `another process may ${nameOf(n)} it`);
      }
    }
  } catch (error) {
    if (!(error instanceof calls.SystemCallError)) throw error;
    warnOnce(path, error.message);
  }
}

/** Gives up what a stronger lock had, and keeps the one of these arguments, which the descriptor has too. */
export function weakenLock(path: string, fd: number, writes: boolean, sharing: Sharing): void {
  const calls = linuxCalls();
  if (calls === undefined) return;
  const kept = bytesOf(claimsOf(writes, sharing));
  try {
    for (const byte of bytesOf(claimsOf(true, "readers"))) {
      if (!kept.includes(byte)) calls.setRangeLock(fd, calls.RangeLock.F_UNLCK, byte, 1);
    }
  } catch (error) {
    if (!(error instanceof calls.SystemCallError)) throw error;
    warnOnce(path, error.message);
  }
}

interface Claims {
  readonly uses: readonly number[];
  readonly forbids: readonly number[];
}

function claimsOf(writes: boolean, sharing: Sharing): Claims {
  return {
    uses: writes ? [Permission.READ, Permission.WRITE, Permission.RESIZE] : [Permission.READ],
    forbids:
      sharing === "anything"
        ? []
        : sharing === "writers"
          ? [Permission.RESIZE]
          : [Permission.WRITE, Permission.RESIZE],
  };
}

const bytesOf = ({ uses, forbids }: Claims): number[] => [
  ...uses.map((n) => USES + n),
  ...forbids.map((n) => FORBIDS + n),
];

const nameOf = (permission: number): string =>
  permission === Permission.READ ? "read" : permission === Permission.WRITE ? "write" : "resize";

const inUse = (path: string, why: string): ImageError =>
  new ImageError(path, "locked", `the image is in use: ${why}`);

function warnOnce(path: string, why: string): void {
  if (warned) return;
  warned = true;
  process.emitWarning(`${path}: images are not locked against other processes: ${why}`, {
    code: "NB_NO_IMAGE_LOCKS",
  });
}
