/** When to save a machine, and where. */
export interface SaveOn {
  readonly text: string;
  readonly directory: string;
}

const SEPARATOR = "\0";

/** `--save-on TEXT DIR` as one argument, since option parsers know options of one value only. */
export function joinSaveOn(args: readonly string[]): string[] {
  const joined = [...args];
  const at = joined.indexOf("--save-on");
  if (at >= 0 && joined.length > at + 2)
    joined.splice(at + 1, 2, `${joined[at + 1] ?? ""}${SEPARATOR}${joined[at + 2] ?? ""}`);
  return joined;
}

/** Undoes `joinSaveOn`; undefined where the directory is missing. */
export function parseSaveOn(joined: string): SaveOn | undefined {
  const [text, directory] = joined.split(SEPARATOR);
  return text && directory ? { text, directory } : undefined;
}
