import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import { NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "../host/file-error.ts";
import { parsePath } from "./path.ts";

/** What a config's text says, and where it says it. */
export interface ParsedText {
  readonly value: unknown;
  /** `4:8`, where the text has that key of the value at this path, the value, or something around it. */
  locate(configPath: string, key?: string): string | undefined;
}

/**
 * Reads YAML or JSON. Throws `NB_CONFIG`.
 * @param file for messages
 */
export function parseText(file: string, text: string): ParsedText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${file}:${line}:${col}: expected YAML or JSON: ${broken.message}`,
      {
        cause: broken,
      },
    );
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // Too many aliases.
    throw new NorthbridgeError("NB_CONFIG", `${file}: ${fileErrorReason(error)}`, { cause: error });
  }
  return { value, locate: (path, key) => locate(document, lines, path, key) };
}

function locate(
  document: Document,
  lines: LineCounter,
  configPath: string,
  key?: string,
): string | undefined {
  const keys = parsePath(configPath);
  const inside = document.getIn(keys, true);
  const pair = isMap(inside) && inside.items.find((item) => isScalar(item.key) && item.key.value === key);
  if (pair && isScalar(pair.key) && pair.key.range) {
    const { line, col } = lines.linePos(pair.key.range[0]);
    return `${line}:${col}`;
  }
  for (let length = keys.length; length >= 0; length--) {
    const node = document.getIn(keys.slice(0, length), true);
    if (!isNode(node) || !node.range) continue;
    const { line, col } = lines.linePos(node.range[0]);
    return `${line}:${col}`;
  }
  return undefined;
}
