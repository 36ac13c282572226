import { existsSync } from "node:fs";
import { lstat, mkdir, mkdtemp, open, readdir, realpath, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { DirectoryLock, hasSystemCalls, SystemCallError } from "@northbridge/linux";
import { NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "../host/file-error.ts";

const refusal = (directory: string, reason: string, cause?: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_SNAPSHOT", `${directory}: cannot save the machine: ${reason}`, { cause });

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** Throws `NB_SNAPSHOT` where a machine could not be saved to `directory`, because of what is there. */
export async function expectUnused(directory: string): Promise<void> {
  await placeOf(directory);
}

/** Where a directory of that name comes to be. A symbolic link leads there. */
async function placeOf(directory: string): Promise<string> {
  const asked = resolve(directory);
  let place: string;
  try {
    place = await realpath(asked);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw refusal(directory, fileErrorReason(error), error);
    const isLink = await lstat(asked).then(
      () => true,
      () => false,
    );
    if (isLink) throw refusal(directory, "it is a symbolic link to what is not there");
    return asked;
  }
  try {
    if ((await stat(place)).dev !== (await stat(dirname(place))).dev)
      throw refusal(directory, "it is a mount point, which cannot be replaced: name a new directory in it");
    if ((await readdir(place)).length === 0) return place;
  } catch (error) {
    if (error instanceof NorthbridgeError) throw error;
    if (codeOf(error) !== "ENOTDIR") throw refusal(directory, fileErrorReason(error), error);
  }
  throw refusal(directory, "expected a new or empty directory");
}

/**
 * Makes a directory that `fill` has filled: beside its place, and renamed when whole, so that a failure leaves nothing, not
 * even directories above it. What a process that has died left of the same one is removed. On return it is there also
 * after a power failure, if `fill` has synced its files and the directories above it may be read. Throws `NB_SNAPSHOT`:
 * once it is in its place it stays, also where the host cannot say that it will outlive a power failure.
 */
export async function makeDirectory(
  directory: string,
  fill: (partial: string) => Promise<void>,
): Promise<void> {
  const place = await placeOf(directory);
  const parent = dirname(place);
  let partial: Partial | undefined;
  let firstMade: string | undefined;
  try {
    firstMade = await mkdir(parent, { recursive: true });
    await removeAbandoned(parent, basename(place));
    partial = await makePartial(parent, basename(place));
    await fill(partial.path);
    await sync(partial.path);
    await rename(partial.path, place);
  } catch (error) {
    if (partial !== undefined) await rm(partial.path, { recursive: true, force: true });
    if (firstMade !== undefined) await removeEmpty(parent, firstMade);
    if (error instanceof NorthbridgeError && error.code === "NB_SNAPSHOT") throw error;
    throw refusal(directory, fileErrorReason(error), error);
  } finally {
    partial?.lock?.release();
  }
  try {
    const last = firstMade === undefined ? parent : dirname(firstMade);
    for (let path = parent; path.length >= last.length; path = dirname(path)) {
      await sync(path);
      if (path === last) break;
    }
  } catch (error) {
    const reason = `the machine is saved, but may be lost in a power failure: ${fileErrorReason(error)}`;
    throw new NorthbridgeError("NB_SNAPSHOT", `${directory}: ${reason}`, { cause: error });
  }
}

/** A directory that is being filled, and the lock that says so as long as this process lives. */
interface Partial {
  readonly path: string;
  readonly lock: DirectoryLock | undefined;
}

/** Of names that say of a directory that its maker held a lock of it. */
const partialPrefix = (name: string): string => `.${name}.partial-`;
const RANDOM = /^[A-Za-z0-9]{6}$/;

async function makePartial(parent: string, name: string): Promise<Partial> {
  if (!hasSystemCalls()) return { path: await mkdtemp(join(parent, `.${name}.unlocked-`)), lock: undefined };
  for (;;) {
    const path = await mkdtemp(join(parent, partialPrefix(name)));
    let lock: DirectoryLock;
    try {
      lock = DirectoryLock.take(path);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno === "EAGAIN" || error.errno === "ENOENT") continue; // taken for abandoned, and removed
      return { path, lock: undefined }; // a file system where nobody can lock it
    }
    if (existsSync(path)) return { path, lock };
    lock.release();
  }
}

/** Removes what processes that are no more began to write: a guest's memory, which nobody will ask for. */
async function removeAbandoned(parent: string, name: string): Promise<void> {
  const prefix = partialPrefix(name);
  const found = await readdir(parent).catch((error: unknown) => {
    if (codeOf(error) === "EACCES") return []; // it may be written and not read
    throw error;
  });
  if (!hasSystemCalls()) return;
  for (const entry of found) {
    if (!entry.startsWith(prefix) || !RANDOM.test(entry.slice(prefix.length))) continue;
    const path = join(parent, entry);
    let lock: DirectoryLock;
    try {
      lock = DirectoryLock.take(path);
    } catch {
      continue; // somebody is filling it
    }
    await rm(path, { recursive: true, force: true }).catch(() => undefined); // not what was asked for
    lock.release();
  }
}

/** Removes `directory` and those above it, up to `last`, until one is in use. */
async function removeEmpty(directory: string, last: string): Promise<void> {
  try {
    for (let path = directory; path.length >= last.length; path = dirname(path)) await rmdir(path);
  } catch {
    // Somebody else has put something there since.
  }
}

/** Names in a directory outlive a power failure only when it is synced itself, for which it must be read. */
async function sync(directory: string): Promise<void> {
  const handle = await open(directory, "r").catch((error: unknown) => {
    if (codeOf(error) === "EACCES") return undefined;
    throw error;
  });
  if (handle === undefined) return;
  try {
    await handle.sync();
  } catch (error) {
    if (codeOf(error) !== "EINVAL") throw error; // a file system that has no such thing
  } finally {
    await handle.close();
  }
}
