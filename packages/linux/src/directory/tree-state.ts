import { type AtCalls, FileType, Open } from "./at-calls.ts";
import { type HandleTable, Listing } from "./handle-table.ts";
import type { NodeTable } from "./node-table.ts";
import { keyOf } from "./tree-attributes.ts";

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
/** Opened again, a file is neither made nor emptied. */
const ONCE = Open.CREAT | Open.EXCL | Open.TRUNC;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** Where nodes are now, and which of them are open. */
export function saveTree(calls: AtCalls, nodes: NodeTable, handles: HandleTable, root: number): TreeStateV1 {
  const pathOf = (fd: number): string | null => {
    const path = fd < 0 ? fd : calls.pathOf(fd);
    return typeof path === "number" ? null : latin1(path);
  };
  const top = pathOf(nodes.get(root)?.fd ?? -1);
  const prefix = top === null || top === "/" ? "/" : `${top}/`;
  const inside = (path: string | null): string | null =>
    path?.startsWith(prefix) === true && !path.endsWith(DELETED) ? path.slice(prefix.length) : null;
  return {
    version: 1,
    nodes: [...nodes.nodes]
      .filter(({ id }) => id !== root)
      .map(({ id, fd, found, type }) => ({ id, found, type, path: inside(pathOf(fd)) })),
    handles: [...handles.entries].map(([id, { node, flags }]) => ({ id, node, flags })),
  };
}

/** Walks to every saved node again, one name at a time, and opens what was open. What is not there any more is stale. */
export function restoreTree(
  calls: AtCalls,
  nodes: NodeTable,
  handles: HandleTable,
  root: number,
  state: unknown,
): void {
  const { version, nodes: saved, handles: open } = state as TreeStateV1;
  const found: unknown = version;
  if (found !== 1) throw new Error(`directory tree: version ${String(found)}, expected 1`);
  const top = nodes.get(root)?.fd ?? -1;
  for (const { id, found: count, path, type } of saved) {
    const fd = path === null ? -1 : walk(calls, top, path);
    const isSame =
      fd >= 0 && calls.stat(fd) >= 0 && (calls.statx.view.getUint16(28, true) & FileType.MASK) === type;
    if (fd >= 0 && !isSame) calls.close(fd);
    nodes.add(isSame ? fd : -1, isSame ? keyOf(calls.statx) : `stale ${id}`, type, id, count);
  }
  for (const { id, node, flags } of open) {
    const path = nodes.get(node)?.fd ?? -1;
    const isDirectory = (flags & Open.DIRECTORY) !== 0;
    const fd = path < 0 ? -1 : calls.reopen(path, flags & ~(ONCE | Open.NOFOLLOW | Open.DIRECT));
    handles.add({ fd: Math.max(fd, -1), node, flags, listing: isDirectory ? new Listing() : undefined }, id);
  }
}

/** An O_PATH descriptor, or a negative errno. */
function walk(calls: AtCalls, top: number, path: string): number {
  let at = top;
  for (const name of path.split("/")) {
    const next = calls.openAt(at, Buffer.from(name, "latin1"), Open.PATH | Open.NOFOLLOW);
    if (at !== top) calls.close(at);
    if (next < 0) return next;
    at = next;
  }
  return at;
}
