import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/core";
import { runHostCommand } from "../guest/host-command.ts";
import type { Change } from "./network-plan.ts";

/** A change that was made, as it is taken back. */
type Made =
  | { readonly what: string; readonly undo: readonly string[] | undefined }
  | { readonly what: string; readonly file: string; readonly before: string };

/** What one `setup` has changed, oldest first. */
export interface NetworkRecord {
  readonly version: 1;
  readonly name: string;
  readonly made: readonly Made[];
}

const recordPath = (directory: string, name: string): string => join(directory, `${name}.json`);

/**
 * Makes the changes one by one, and records each, so that `teardown` takes back these and no others. The first that
 * fails takes back those before it. Throws `NB_HOST`.
 */
export async function setUp(
  name: string,
  changes: readonly Change[],
  directory: string,
  say: (line: string) => void,
): Promise<void> {
  const path = recordPath(directory, name);
  if (existsSync(path)) {
    throw new NorthbridgeError(
      "NB_HOST",
      `${name}: is set up already: \`northbridge net teardown ${name}\` first`,
    );
  }
  await mkdir(directory, { recursive: true });
  const made: Made[] = [];
  try {
    for (const change of changes) {
      made.push(await make(change));
      await writeFile(
        path,
        `${JSON.stringify({ version: 1, name, made } satisfies NetworkRecord, undefined, 2)}\n`,
      );
      say(change.what);
    }
  } catch (error) {
    await takeBack(made);
    await rm(path, { force: true });
    throw error;
  }
}

/** Takes back what `setUp` did, newest first. Throws `NB_CONFIG` where there is no record, `NB_HOST` for what stays. */
export async function tearDown(name: string, directory: string): Promise<void> {
  const record = await readRecord(name, directory);
  const failures = await takeBack(record.made);
  await rm(recordPath(directory, name), { force: true });
  if (failures.length > 0)
    throw new NorthbridgeError("NB_HOST", `${name}: could not take back: ${failures.join("; ")}`);
}

/** The networks that are set up. */
export async function listNetworks(directory: string): Promise<readonly NetworkRecord[]> {
  const files = await readdir(directory).catch((): string[] => []);
  const names = files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
  return Promise.all(names.sort().map((name) => readRecord(name, directory)));
}

async function readRecord(name: string, directory: string): Promise<NetworkRecord> {
  const path = recordPath(directory, name);
  try {
    const record = JSON.parse(await readFile(path, "utf8")) as Omit<NetworkRecord, "version"> & {
      version: number;
    };
    if (record.version === 1) return { ...record, version: 1 };
    throw new Error(`of version ${record.version}`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${name}: expected the record of a \`net setup\` at ${path}: ${reason}`,
      {
        cause: error,
      },
    );
  }
}

async function make(change: Change): Promise<Made> {
  if ("file" in change) {
    const before = (await readFile(change.file, "utf8")).trim();
    if (before !== change.content) await writeFile(change.file, change.content);
    return { what: change.what, file: change.file, before };
  }
  const [program = "", ...args] = change.run;
  await runHostCommand(program, args);
  return { what: change.what, undo: change.undo };
}

async function takeBack(made: readonly Made[]): Promise<string[]> {
  const failures: string[] = [];
  for (const one of made.toReversed()) {
    try {
      if ("file" in one) await writeFile(one.file, one.before);
      else if (one.undo !== undefined) {
        const [program = "", ...args] = one.undo;
        await runHostCommand(program, args);
      }
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  return failures;
}
