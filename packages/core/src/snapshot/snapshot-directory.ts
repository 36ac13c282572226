import { lstat, mkdir, mkdtemp, open, readdir, realpath, rename, rm, rmdir, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { crc32 } from "node:zlib";
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
 * after a power failure, if `fill` has synced its files. Throws `NB_SNAPSHOT`.
 */
export async function makeDirectory(
  directory: string,
  fill: (partial: string) => Promise<void>,
): Promise<void> {
  const place = await placeOf(directory);
  const parent = dirname(place);
  let made: string | undefined;
  let firstMade: string | undefined;
  try {
    firstMade = await mkdir(parent, { recursive: true });
    const prefix = `.${basename(place)}.partial-`;
    await removeAbandoned(parent, prefix);
    made = await mkdtemp(join(parent, `${prefix}${hostMark()}-${process.pid}-`));
    await fill(made);
    await sync(made);
    await rename(made, place);
    made = place;
    const last = firstMade === undefined ? parent : dirname(firstMade);
    for (let path = parent; path.length >= last.length; path = dirname(path)) {
      await sync(path);
      if (path === last) break;
    }
  } catch (error) {
    if (made !== undefined) await rm(made, { recursive: true, force: true });
    if (firstMade !== undefined) await removeEmpty(parent, firstMade);
    if (error instanceof NorthbridgeError && error.code === "NB_SNAPSHOT") throw error;
    throw refusal(directory, fileErrorReason(error), error);
  }
}

/** A process id says something on its own host only. */
const hostMark = (): string => crc32(hostname()).toString(16);

/** Removes what processes of this host that are no more began to write: a guest's memory, which nobody will ask for. */
async function removeAbandoned(parent: string, prefix: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(prefix)) continue;
    const [, host, pid] = /^([0-9a-f]+)-(\d+)-[^-]+$/.exec(name.slice(prefix.length)) ?? [];
    if (host !== hostMark() || isAlive(Number(pid))) continue;
    await rm(join(parent, name), { recursive: true, force: true }).catch(() => undefined); // not what was asked for
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
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

/** Names in a directory outlive a power failure only when it is synced itself. */
async function sync(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } catch (error) {
    if (codeOf(error) !== "EINVAL") throw error; // a file system that has no such thing
  } finally {
    await handle.close();
  }
}
