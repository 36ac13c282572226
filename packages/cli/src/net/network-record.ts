import { randomUUID } from "node:crypto";
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/core";

/** A change of a program that was begun, as it is taken back. */
export interface MadeByProgram {
  readonly what: string;
  readonly undo?: readonly string[] | undefined;
  /** Fails where nothing is left to undo. */
  readonly exists?: readonly string[] | undefined;
}

/** A file that is to hold `content` while the network is there. */
export interface MadeByFile {
  readonly what: string;
  readonly file: string;
  readonly content: string;
  /** What it held; not there where it was `content` already, and nothing is ours to take back. */
  readonly before?: string | undefined;
  /** Files that the kernel writes along with it. */
  readonly rewritten?: readonly RewrittenFile[] | undefined;
}

export interface RewrittenFile {
  readonly file: string;
  readonly before: string;
  readonly after: string;
}

export type Made = MadeByProgram | MadeByFile;

/** What one `setup` has changed, oldest first. */
export interface NetworkRecord {
  readonly version: 2;
  readonly name: string;
  readonly made: readonly Made[];
}

const pathOf = (directory: string, name: string): string => join(directory, `${name}.json`);

/** Begins the record of a network. Throws `NB_HOST` where there is one. */
export async function createRecord(name: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const path = pathOf(directory, name);
  const whole = await writeAside(directory, { version: 2, name, made: [] });
  try {
    // Unlike rename(2), link(2) does not take the place of another's.
    await link(whole, path);
  } catch (error) {
    const isThere = error instanceof Error && "code" in error && error.code === "EEXIST";
    const reason = isThere
      ? `is set up already: \`northbridge net teardown ${name}\` first`
      : `cannot record what is done at ${path}: ${String(error)}`;
    throw new NorthbridgeError("NB_HOST", `${name}: ${reason}`, { cause: error });
  } finally {
    await rm(whole, { force: true });
  }
}

/** Writes a record: the whole one or the one from before, whenever this process ends. Removes it where nothing is left. */
export async function saveRecord(record: NetworkRecord, directory: string): Promise<void> {
  const path = pathOf(directory, record.name);
  if (record.made.length === 0) await rm(path, { force: true });
  else await rename(await writeAside(directory, record), path);
}

async function writeAside(directory: string, record: NetworkRecord): Promise<string> {
  const path = join(directory, `.${randomUUID()}.tmp`);
  await writeFile(path, `${JSON.stringify(record, undefined, 2)}\n`, { flush: true });
  return path;
}

/** Throws `NB_CONFIG` where there is none, or none that this version reads. */
export async function readRecord(name: string, directory: string): Promise<NetworkRecord> {
  const path = pathOf(directory, name);
  try {
    const record = JSON.parse(await readFile(path, "utf8")) as Omit<NetworkRecord, "version"> & {
      version: number;
    };
    if (record.version === 2) return { ...record, version: 2 };
    throw new Error(`of version ${record.version}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${name}: expected the record of a \`net setup\` at ${path}: ${reason}`,
      { cause: error },
    );
  }
}

/** The networks that are set up, and those whose records cannot be read. */
export async function listNetworks(
  directory: string,
): Promise<readonly (NetworkRecord | { readonly name: string; readonly problem: string })[]> {
  const files = await readdir(directory).catch((): string[] => []);
  const names = files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
  return Promise.all(
    names.sort().map((name) =>
      readRecord(name, directory).catch((error: unknown) => ({
        name,
        problem: error instanceof Error ? error.message : String(error),
      })),
    ),
  );
}
