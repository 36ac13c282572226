import { type AtCalls, FileType, Open } from "./at-calls.ts";
import type { RootedBuffer } from "../rooted-buffer.ts";
import type { HandleTable } from "./handle-table.ts";
import type { NodeTable, TreeNode } from "./node-table.ts";
import { keyOf } from "./tree-attributes.ts";
import { nameFault } from "./tree-name.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
interface TreeStateV1 {
  readonly version: 1;
  readonly nodes: readonly {
    readonly id: number;
    readonly found: number;
    /** Bytes as latin1, from the tree's root; null where the file has no name in the tree any more. */
    readonly path: string | null;
    readonly type: number;
  }[];
  readonly handles: readonly { readonly id: number; readonly node: number; readonly flags: number }[];
}

const DELETED = " (deleted)";

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const linksOf = ({ view }: RootedBuffer): number => view.getUint32(16, true);
const typeOf = ({ view }: RootedBuffer): number => view.getUint16(28, true) & FileType.MASK;

/** Where nodes are now, and which of them are open. */
export function saveTree(calls: AtCalls, nodes: NodeTable, handles: HandleTable, root: number): TreeStateV1 {
  const top = nodes.get(root)?.fd ?? -1;
  const absolute = (fd: number): string | null => {
    const path = fd < 0 ? fd : calls.pathOf(fd);
    return typeof path === "number" ? null : latin1(path);
  };
  const start = absolute(top);
  const prefix = start === null || start === "/" ? "/" : `${start}/`;
  const pathOf = ({ fd, key }: TreeNode): string | null => {
    if (fd < 0 || calls.stat(fd) < 0 || linksOf(calls.statx) === 0) return null;
    const path = absolute(fd);
    if (path?.startsWith(prefix) !== true) return null;
    const inside = path.slice(prefix.length);
    // A name may end so, and one of several that is gone is shown so.
    return !inside.endsWith(DELETED) || isAt(calls, top, inside, key) ? inside : null;
  };
  return {
    version: 1,
    nodes: [...nodes.nodes]
      .filter(({ id }) => id !== root)
      .map((node) => ({ id: node.id, found: node.found, type: node.type, path: pathOf(node) })),
    handles: [...handles.entries].map(([id, { node, flags }]) => ({ id, node, flags })),
  };
}

/** Walks to every saved node again, one name at a time. What is not there any more is stale. */
export function restoreTree(calls: AtCalls, nodes: NodeTable, root: number, state: unknown): void {
  const { version, nodes: saved } = state as TreeStateV1;
  const found: unknown = version;
  if (found !== 1) throw new Error(`directory tree: version ${String(found)}, expected 1`);
  const top = nodes.get(root)?.fd ?? -1;
  for (const { id, found: count, path, type } of saved) {
    if (!Number.isSafeInteger(id) || id <= root || nodes.get(id) !== undefined) {
      throw new Error(`directory tree: node ${String(id)}, expected each once, and behind ${root}`);
    }
    const fd = path === null ? -1 : walk(calls, top, path);
    const isSame = fd >= 0 && calls.stat(fd) >= 0 && typeOf(calls.statx) === type;
    if (fd >= 0 && !isSame) calls.close(fd);
    nodes.add(isSame ? fd : -1, isSame ? keyOf(calls.statx) : `stale ${id}`, type, id, count);
  }
}

/** What was open. */
export function savedHandles(state: unknown): TreeStateV1["handles"] {
  const { handles } = state as TreeStateV1;
  if (new Set(handles.map(({ id }) => id)).size !== handles.length)
    throw new Error("directory tree: a handle twice, expected each once");
  return handles;
}

function isAt(calls: AtCalls, top: number, path: string, key: string): boolean {
  const fd = walk(calls, top, path);
  if (fd < 0) return false;
  const isSame = calls.stat(fd) >= 0 && keyOf(calls.statx) === key;
  calls.close(fd);
  return isSame;
}

/** An O_PATH descriptor, or a negative errno. A saved path is nobody's word that it stays inside. */
function walk(calls: AtCalls, top: number, path: string): number {
  let at = top;
  for (const text of path.split("/")) {
    const name = Buffer.from(text, "latin1");
    const fault = nameFault(name);
    const next = fault < 0 ? fault : calls.openAt(at, name, Open.PATH | Open.NOFOLLOW);
    if (at !== top) calls.close(at);
    if (next < 0) return next;
    at = next;
  }
  return at;
}
