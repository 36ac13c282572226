import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileErrorReason } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { CorpusEntry, HostileEntry, ProgramEntry } from "@northbridge/sdk/fuzz";

/** Programs as files, one each. A new one is written as soon as it is known: a campaign may be ended at any time. */
export class CorpusDirectory {
  /** What was there in the beginning. */
  readonly entries: readonly CorpusEntry[];
  readonly #directory: string;
  readonly #texts: Set<string>;
  readonly #atFirst: number;
  #number: number;

  private constructor(directory: string, files: readonly { readonly name: string; readonly text: string }[]) {
    this.#directory = directory;
    this.#texts = new Set(files.map(({ text }) => text));
    this.#atFirst = this.#texts.size;
    this.#number = 1 + Math.max(-1, ...files.map(({ name }) => Number(/(\d+)\.json$/.exec(name)?.[1] ?? -1)));
    this.entries = files.map(({ name, text }) => parse(join(directory, name), text));
  }

  /** Reads what is there, and makes the directory where there is none. Throws `NB_HOST`, `NB_CONFIG` of a damaged file. */
  static open(directory: string): CorpusDirectory {
    try {
      makeDirectory(directory);
      const names = readdirSync(directory)
        .filter((name) => name.endsWith(".json"))
        .sort();
      const files = names.map((name) => ({ name, text: readFileSync(join(directory, name), "utf8") }));
      return new CorpusDirectory(directory, files);
    } catch (error) {
      throw error instanceof NorthbridgeError ? error : refuse(directory, "read", error);
    }
  }

  /** How many programs are there now that were not in the beginning. */
  get added(): number {
    return this.#texts.size - this.#atFirst;
  }

  /** Keeps a program under a name that no file has. Throws `NB_HOST`. */
  add(entry: CorpusEntry): void {
    const text = `${JSON.stringify(entry)}\n`;
    if (this.#texts.has(text)) return;
    this.#texts.add(text);
    const kind = (entry.law ?? "new").replaceAll(" ", "-");
    const name = `${kind}-${String(this.#number++).padStart(4, "0")}.json`;
    try {
      writeFileSync(join(this.#directory, name), text, { flag: "wx" });
    } catch (error) {
      throw refuse(this.#directory, "write", error);
    }
  }
}

/** Of a directory that is there: a path that is misspelt makes none. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
}

function parse(file: string, text: string): CorpusEntry {
  try {
    const entry = JSON.parse(text) as Partial<ProgramEntry & HostileEntry> | null;
    const isEntry = typeof entry?.experiment === "object" || typeof entry?.rings === "object";
    if (Array.isArray(entry?.program) && isEntry) return entry as CorpusEntry;
  } catch {
    // Said below.
  }
  throw new NorthbridgeError("NB_CONFIG", `${file}: expected { program, experiment } as JSON`);
}

const refuse = (directory: string, what: string, cause: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `${directory}: cannot ${what} the corpus: ${fileErrorReason(cause)}`, {
    cause,
  });
