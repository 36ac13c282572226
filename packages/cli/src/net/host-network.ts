import { glob, readFile, writeFile } from "node:fs/promises";
import { NorthbridgeError } from "@northbridge/core";
import { runHostCommand } from "../guest/host-command.ts";
import type { Change, FileChange, ProgramChange } from "./network-plan.ts";
import {
  createRecord,
  listNetworks,
  type Made,
  type MadeByFile,
  type NetworkRecord,
  readRecord,
  type RewrittenFile,
  saveRecord,
} from "./network-record.ts";

/**
 * Makes the changes one by one. Each is recorded before it is made, so that `teardown` takes back these and no others,
 * also where this process is killed between two. The first that fails takes back those before it. Throws `NB_HOST`.
 */
export async function setUp(
  name: string,
  changes: readonly Change[],
  directory: string,
  say: (line: string) => void,
): Promise<void> {
  await createRecord(name, directory);
  const made: Made[] = [];
  const save = (): Promise<void> => saveRecord({ version: 2, name, made }, directory);
  try {
    for (const change of changes) {
      await ("file" in change ? changeFile(change, made, save) : runProgram(change, made, save));
      say(change.what);
    }
  } catch (error) {
    const failures = await takeBack({ version: 2, name, made }, directory);
    if (failures.length === 0) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const rest = `could not take back: ${failures.join("; ")}: \`northbridge net teardown ${name}\``;
    throw new NorthbridgeError("NB_HOST", `${reason}; ${rest}`, { cause: error });
  }
}

/**
 * Takes back what `setUp` did, newest first; what cannot be taken back stays in the record. Throws `NB_CONFIG` where there
 * is none, `NB_HOST` for what stays.
 */
export async function tearDown(name: string, directory: string): Promise<void> {
  const failures = await takeBack(await readRecord(name, directory), directory);
  if (failures.length > 0) {
    const reason = failures.join("; ");
    const remedy = `\`northbridge net teardown ${name}\` again once that is settled`;
    throw new NorthbridgeError("NB_HOST", `${name}: could not take back: ${reason}: ${remedy}`);
  }
}

async function runProgram(change: ProgramChange, made: Made[], save: () => Promise<void>): Promise<void> {
  const { what, run, undo, exists } = change;
  if (exists !== undefined && (await succeeds(exists))) {
    throw new NorthbridgeError("NB_HOST", `${what}: is there already: remove it, or choose another NAME`);
  }
  made.push({ what, undo, exists });
  await save();
  try {
    await execute(run);
  } catch (error) {
    made.pop();
    throw error;
  }
}

async function changeFile(change: FileChange, made: Made[], save: () => Promise<void>): Promise<void> {
  const { what, file, content, rewrites } = change;
  const before = await contentOf(file);
  if (before === undefined) throw new NorthbridgeError("NB_HOST", `${what}: cannot read ${file}`);
  if (before === content) {
    made.push({ what, file, content });
    await save();
    return;
  }
  const around = await contentsOf(rewrites);
  made.push({ what, file, content, before });
  await save();
  await writeFile(file, content);
  const rewritten: RewrittenFile[] = [];
  for (const [path, old] of around) {
    const after = await contentOf(path);
    if (after !== undefined) rewritten.push({ file: path, before: old, after });
  }
  made[made.length - 1] = { what, file, content, before, rewritten };
  await save();
}

/** Says what could not be taken back; the record keeps that. */
async function takeBack(record: NetworkRecord, directory: string): Promise<string[]> {
  const failures: string[] = [];
  let made = record.made;
  for (const one of record.made.toReversed()) {
    try {
      await ("file" in one ? restoreFile(one, record.name, directory) : undo(one));
      made = made.filter((other) => other !== one);
      await saveRecord({ ...record, made }, directory);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  // Also where nothing was taken back: the last change of a `setup` that failed was recorded, and not made.
  await saveRecord({ ...record, made }, directory);
  return failures;
}

async function undo(one: Exclude<Made, MadeByFile>): Promise<void> {
  if (one.undo === undefined || (one.exists !== undefined && !(await succeeds(one.exists)))) return;
  await execute(one.undo);
}

/** Puts back what a file held, unless somebody has changed it since, or another network still needs it. */
async function restoreFile(one: MadeByFile, name: string, directory: string): Promise<void> {
  const { file, content, before, rewritten = [] } = one;
  if (before === undefined || (await contentOf(file)) !== content) return;
  for (const other of await listNetworks(directory)) {
    if (other.name === name || !("made" in other)) continue;
    const at = other.made.findIndex((made) => "file" in made && made.file === file);
    if (at < 0) continue;
    // The last to go puts it back.
    await saveRecord({ ...other, made: other.made.with(at, one) }, directory);
    return;
  }
  const wanted = new Map<string, string>();
  for (const { file: path, before: old, after } of rewritten) {
    const now = await contentOf(path);
    if (now !== undefined) wanted.set(path, now === after ? old : now);
  }
  await writeFile(file, before);
  for (const [path, value] of wanted) if ((await contentOf(path)) !== value) await writeFile(path, value);
}

async function contentsOf(pattern: string | undefined): Promise<ReadonlyMap<string, string>> {
  const contents = new Map<string, string>();
  if (pattern === undefined) return contents;
  for await (const path of glob(pattern)) {
    const content = await contentOf(path);
    if (content !== undefined) contents.set(path, content);
  }
  return contents;
}

/** `undefined` where it is not there, or not for reading. */
async function contentOf(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch {
    return undefined;
  }
}

function execute([program = "", ...args]: readonly string[]): Promise<string> {
  return runHostCommand(program, args);
}

/** Throws where there is no such program: that says nothing. */
async function succeeds(command: readonly string[]): Promise<boolean> {
  try {
    await execute(command);
    return true;
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") throw error;
    return false;
  }
}
