/** One file of an archive, by its absolute path in the guest. Parent directories are added where they are missing. */
export type CpioEntry =
  | { readonly kind: "file"; readonly path: string; readonly mode?: number; readonly bytes: Uint8Array }
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | {
      readonly kind: "characterDevice";
      readonly path: string;
      readonly mode?: number;
      readonly major: number;
      readonly minor: number;
    };

/** File types of `st_mode`. */
const S_IFREG = 0o100_000;
const S_IFDIR = 0o040_000;
const S_IFLNK = 0o120_000;
const S_IFCHR = 0o020_000;

const MAGIC = "070701";
const TRAILER = "TRAILER!!!";
const HEADER_SIZE = 110;
/** Members of an initramfs begin on such a boundary, archives behind one another too. */
const ALIGNMENT = 4;

/**
 * Writes a cpio archive in the "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
 * Everything belongs to root and has time 0: equal entries give equal bytes. Later entries replace earlier ones of
 * the same path. Throws a RangeError for a path that is not absolute or leaves the root.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 1;
  for (const entry of withParents(entries)) {
    parts.push(...member(archiveName(entry.path), inode++, describe(entry)));
  }
  parts.push(...member(TRAILER, 0, { mode: 0, links: 1, content: NO_CONTENT, major: 0, minor: 0 }));
  return Buffer.concat(parts);
}

interface Member {
  readonly mode: number;
  readonly links: number;
  readonly content: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

const NO_CONTENT = new Uint8Array();

function describe(entry: CpioEntry): Member {
  const plain = { links: 1, content: NO_CONTENT, major: 0, minor: 0 };
  switch (entry.kind) {
    case "file":
      return { ...plain, mode: S_IFREG | (entry.mode ?? 0o644), content: entry.bytes };
    case "directory":
      return { ...plain, mode: S_IFDIR | (entry.mode ?? 0o755), links: 2 };
    case "symlink":
      return { ...plain, mode: S_IFLNK | 0o777, content: new TextEncoder().encode(entry.target) };
    case "characterDevice":
      return { ...plain, mode: S_IFCHR | (entry.mode ?? 0o600), major: entry.major, minor: entry.minor };
  }
}

/** Header, name and content, each padded to {@link ALIGNMENT}. */
function member(name: string, inode: number, { mode, links, content, major, minor }: Member): Uint8Array[] {
  const nameBytes = new TextEncoder().encode(`${name}\0`);
  const OWNER = 0;
  const MTIME = 0;
  const CHECK = 0;
  const fields = [
    ...[inode, mode, OWNER, OWNER, links, MTIME, content.length],
    ...[0, 0, major, minor, nameBytes.length, CHECK],
  ];
  const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return [
    new TextEncoder().encode(header),
    nameBytes,
    padding(HEADER_SIZE + nameBytes.length),
    content,
    padding(content.length),
  ];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}

function archiveName(path: string): string {
  return path.slice(1);
}

/** The kernel unpacks in order and makes no parents: a directory comes before what is in it. */
function withParents(entries: readonly CpioEntry[]): CpioEntry[] {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    const segments = entry.path.split("/");
    if (
      segments.shift() !== "" ||
      segments.length === 0 ||
      segments.some((segment) => ["", ".", ".."].includes(segment))
    ) {
      throw new RangeError(`${entry.path}: expected an absolute path without empty, . and .. parts`);
    }
    for (let depth = 1; depth < segments.length; depth++) {
      const path = `/${segments.slice(0, depth).join("/")}`;
      if (!byPath.has(path)) byPath.set(path, { kind: "directory", path });
    }
    byPath.set(entry.path, entry);
  }
  return [...byPath.values()];
}

/** Adds files to an initramfs that is there: the kernel unpacks archives behind one another. */
export function appendToInitramfs(initramfs: Uint8Array, extra: readonly CpioEntry[]): Uint8Array {
  const gap = new Uint8Array((ALIGNMENT - (initramfs.length % ALIGNMENT)) % ALIGNMENT);
  return Buffer.concat([initramfs, gap, writeCpio(extra)]);
}
