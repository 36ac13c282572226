import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fileErrorReason } from "./file-error.ts";

/** A place in a module that is not somebody else's: in a stack, or in front of a syntax error. */
const PLACE = /(?:file:\/\/)?(\/[^\s():?]+\.[cm]?[jt]s)(?:\?[^\s():]*)?:(\d+)/g;
const MISSING = /^Cannot find (?:module|package) '([^']+)'/;

/**
 * Why a module of the user's could not be loaded, or failed, in words: with the file and the line where that is known.
 * @param file as the user wrote it
 */
export function moduleErrorReason(error: unknown, file: string): string {
  if (!(error instanceof Error)) return String(error);
  const [, missing] = MISSING.exec(error.message) ?? [];
  if (missing !== undefined) {
    return existsSync(file)
      ? `it imports ${pathOf(missing)}, which is not there`
      : "there is no such file or directory";
  }
  const reason = fileErrorReason(error);
  const place = placeOf(error.stack ?? "");
  return place === undefined ? reason : `${reason} (${place})`;
}

/** Where an error came from, as `file:line`: the innermost place outside of packages. */
export function placeOf(stack: string): string | undefined {
  for (const [, path, line] of stack.matchAll(PLACE)) {
    if (path === undefined || path.includes("/node_modules/")) continue;
    if (path.startsWith(OURS) && /\/(?:src|dist)\//.test(path)) continue;
    return `${path}:${line}`;
  }
  return undefined;
}

/** Where this package and its neighbours are: what a user's mistake passes through. */
const OURS = fileURLToPath(new URL("../../..", import.meta.url));

const pathOf = (specifier: string): string =>
  specifier.startsWith("file:") ? fileURLToPath(specifier) : specifier;
