import type { DirectoryBackend, DirectoryEntry, FileAttributes, FileOwner } from "@northbridge/sdk";
import { HeldAnswers } from "./held-answers.ts";

const ROOT = 1;
// Errnos and modes of Linux, asm-generic.
const [ENOENT, EIO, EBADF, EEXIST, ENOTDIR, EISDIR, EINVAL, EFBIG, ENOTEMPTY, ESTALE] = [
  2, 5, 9, 17, 20, 21, 22, 27, 39, 116,
];
const [DIRECTORY, REGULAR, LINK, TYPE] = [0o040000, 0o100000, 0o120000, 0o170000];
/** No file is longer, no directory has more in it. */
const MOST_BYTES = 65_536;
const MOST_FILES = 64;

interface Inode {
  readonly id: number;
  mode: number;
  bytes: Uint8Array;
  readonly names: Map<string, Inode>;
}

interface TreeStateV1 {
  readonly found: readonly (readonly [id: number, count: number])[];
  readonly handles: readonly (readonly [handle: number, id: number])[];
}

const textOf = (name: Uint8Array): string => String.fromCharCode(...name);
const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0));

/** A small directory tree in memory, for devices under test. It knows one owner and one time. */
export class MemoryTree implements DirectoryBackend {
  readonly root: number = ROOT;
  readonly readOnly = false;
  attributes: FileAttributes = attributesOf({ id: ROOT, mode: DIRECTORY, bytes: new Uint8Array() });
  createdNode = 0;
  entry: DirectoryEntry = { inodeLow: 0, inodeHigh: 0, nextLow: 0, nextHigh: 0, type: 0, name: bytesOf("") };
  readonly #answers: HeldAnswers;
  readonly #inodes = new Map<number, Inode>();
  #found = new Map<number, number>();
  #handles = new Map<number, Inode>();

  /** @param answers when operations end that take time: `sync` */
  constructor(answers: HeldAnswers = new HeldAnswers()) {
    this.#answers = answers;
    this.#make(DIRECTORY | 0o755);
  }

  lookup(parent: number, name: Uint8Array): number {
    const directory = this.#directory(parent);
    if (typeof directory === "number") return directory;
    const inode = directory.names.get(textOf(name));
    return inode === undefined ? -ENOENT : this.#find(inode);
  }

  forget(node: number, count: number): void {
    const left = (this.#found.get(node) ?? 0) - count;
    if (left > 0) this.#found.set(node, left);
    else this.#found.delete(node);
  }

  getAttributes(node: number): number {
    return this.#about(node, () => 0);
  }

  setAttributes(node: number, { mode, size }: { readonly mode?: number; readonly size?: number }): number {
    return this.#about(node, (inode) => {
      if (mode !== undefined) inode.mode = (inode.mode & TYPE) | (mode & 0o7777);
      return size === undefined ? 0 : resize(inode, size);
    });
  }

  readLink(node: number): Uint8Array | number {
    const inode = this.#node(node);
    if (inode === undefined) return -ESTALE;
    return (inode.mode & TYPE) === LINK ? inode.bytes : -EINVAL;
  }

  makeNode(parent: number, name: Uint8Array, mode: number, _owner: FileOwner): number {
    return this.#add(parent, name, REGULAR | (mode & 0o7777));
  }

  makeDirectory(parent: number, name: Uint8Array, mode: number, _owner: FileOwner): number {
    return this.#add(parent, name, DIRECTORY | (mode & 0o7777));
  }

  makeSymbolicLink(parent: number, name: Uint8Array, target: Uint8Array, _owner: FileOwner): number {
    return this.#add(parent, name, LINK | 0o777, target.slice());
  }

  makeLink(node: number, parent: number, name: Uint8Array): number {
    const directory = this.#directory(parent);
    const inode = this.#node(node);
    if (typeof directory === "number") return directory;
    if (inode === undefined) return -ESTALE;
    if (directory.names.has(textOf(name))) return -EEXIST;
    directory.names.set(textOf(name), inode);
    return this.#find(inode);
  }

  unlink(parent: number, name: Uint8Array): number {
    return this.#remove(parent, name, false);
  }

  removeDirectory(parent: number, name: Uint8Array): number {
    return this.#remove(parent, name, true);
  }

  rename(parent: number, name: Uint8Array, newParent: number, newName: Uint8Array): number {
    const from = this.#directory(parent);
    const to = this.#directory(newParent);
    if (typeof from === "number") return from;
    if (typeof to === "number") return to;
    const inode = from.names.get(textOf(name));
    if (inode === undefined) return -ENOENT;
    from.names.delete(textOf(name));
    to.names.set(textOf(newName), inode);
    return 0;
  }

  open(node: number, _flags: number): number {
    const inode = this.#node(node);
    if (inode === undefined) return -ESTALE;
    return (inode.mode & TYPE) === REGULAR ? this.#handle(inode) : -EISDIR;
  }

  openDirectory(node: number): number {
    const directory = this.#directory(node);
    return typeof directory === "number" ? directory : this.#handle(directory);
  }

  create(parent: number, name: Uint8Array, flags: number, mode: number, owner: FileOwner): number {
    let node = this.makeNode(parent, name, mode, owner);
    if (node === -EEXIST) node = this.lookup(parent, name);
    if (node < 0) return node;
    this.createdNode = node;
    return this.open(node, flags);
  }

  read(handle: number, offset: number, into: readonly Uint8Array[]): number {
    const inode = this.#handles.get(handle);
    if (inode === undefined) return -EBADF;
    let at = offset;
    for (const part of into) {
      const piece = inode.bytes.subarray(at, at + part.length);
      part.set(piece);
      at += piece.length;
    }
    return at - offset;
  }

  write(handle: number, offset: number, from: readonly Uint8Array[]): number {
    const inode = this.#handles.get(handle);
    if (inode === undefined) return -EBADF;
    const length = from.reduce((sum, part) => sum + part.length, 0);
    if (offset + length > inode.bytes.length) {
      const done = resize(inode, offset + length);
      if (done < 0) return done;
    }
    let at = offset;
    for (const part of from) {
      inode.bytes.set(part, at);
      at += part.length;
    }
    return length;
  }

  sync(handle: number): Promise<number> {
    const result = this.#handles.has(handle) ? 0 : -EBADF;
    return this.#answers
      .operation(() => undefined)
      .then(
        () => result,
        () => -EIO,
      );
  }

  allocate(handle: number, _mode: number, offset: number, length: number): number {
    const inode = this.#handles.get(handle);
    return inode === undefined ? -EBADF : resize(inode, Math.max(inode.bytes.length, offset + length));
  }

  seek(handle: number, offset: number, whence: number): number {
    const inode = this.#handles.get(handle);
    if (inode === undefined) return -EBADF;
    if (whence !== 3 && whence !== 4) return -EINVAL;
    return whence === 3 ? offset : Math.max(offset, inode.bytes.length);
  }

  entryAt(handle: number, low: number, _high: number): number {
    const directory = this.#handles.get(handle);
    if (directory === undefined) return -EBADF;
    const [name, inode] = [...directory.names][low] ?? [];
    if (name === undefined || inode === undefined) return 0;
    this.entry = {
      inodeLow: inode.id,
      inodeHigh: 0,
      nextLow: low + 1,
      nextHigh: 0,
      type: inode.mode >> 12,
      name: bytesOf(name),
    };
    return 1;
  }

  close(handle: number): void {
    this.#handles.delete(handle);
  }

  statistics(node: number): number | ReturnType<Exclude<DirectoryBackend["statistics"], undefined>> {
    if (this.#node(node) === undefined) return -ESTALE;
    const counts = { blocks: 1000, blocksFree: 100, blocksAvailable: 100, files: 1000, filesFree: 100 };
    return { blockSize: 4096, ...counts, nameLength: 255 };
  }

  save(): TreeStateV1 {
    return {
      found: [...this.#found],
      handles: [...this.#handles].map(([handle, { id }]) => [handle, id]),
    };
  }

  restore(state: unknown): void {
    const { found, handles } = state as TreeStateV1;
    this.#found = new Map(found);
    this.#handles = new Map();
    for (const [handle, id] of handles) {
      const inode = this.#inodes.get(id);
      if (inode !== undefined) this.#handles.set(handle, inode);
    }
  }

  forgetAll(): void {
    this.#found.clear();
    this.#handles.clear();
  }

  closeTree(): Promise<void> {
    return Promise.resolve();
  }

  #make(mode: number, bytes: Uint8Array = new Uint8Array()): Inode {
    const inode = { id: this.#inodes.size + ROOT, mode, bytes, names: new Map<string, Inode>() };
    this.#inodes.set(inode.id, inode);
    return inode;
  }

  #node(id: number): Inode | undefined {
    return id === ROOT || this.#found.has(id) ? this.#inodes.get(id) : undefined;
  }

  #directory(id: number): Inode | number {
    const inode = this.#node(id);
    if (inode === undefined) return -ESTALE;
    return (inode.mode & TYPE) === DIRECTORY ? inode : -ENOTDIR;
  }

  #about(id: number, change: (inode: Inode) => number): number {
    const inode = this.#node(id);
    if (inode === undefined) return -ESTALE;
    const done = change(inode);
    this.attributes = attributesOf(inode);
    return done;
  }

  #find(inode: Inode): number {
    this.#found.set(inode.id, (this.#found.get(inode.id) ?? 0) + 1);
    this.attributes = attributesOf(inode);
    return inode.id;
  }

  #handle(inode: Inode): number {
    let handle = 1;
    while (this.#handles.has(handle)) handle++;
    this.#handles.set(handle, inode);
    return handle;
  }

  #add(parent: number, name: Uint8Array, mode: number, bytes?: Uint8Array): number {
    const directory = this.#directory(parent);
    if (typeof directory === "number") return directory;
    if (name.length === 0) return -EINVAL;
    if (directory.names.has(textOf(name))) return -EEXIST;
    if (directory.names.size === MOST_FILES) return -EFBIG;
    const inode = this.#make(mode, bytes);
    directory.names.set(textOf(name), inode);
    return this.#find(inode);
  }

  #remove(parent: number, name: Uint8Array, isDirectory: boolean): number {
    const directory = this.#directory(parent);
    if (typeof directory === "number") return directory;
    const inode = directory.names.get(textOf(name));
    if (inode === undefined) return -ENOENT;
    if (((inode.mode & TYPE) === DIRECTORY) !== isDirectory) return isDirectory ? -ENOTDIR : -EISDIR;
    if (inode.names.size > 0) return -ENOTEMPTY;
    directory.names.delete(textOf(name));
    return 0;
  }
}

function resize(inode: Inode, size: number): number {
  if (size > MOST_BYTES) return -EFBIG;
  const bytes = new Uint8Array(size);
  bytes.set(inode.bytes.subarray(0, size));
  inode.bytes = bytes;
  return 0;
}

function attributesOf({ id, mode, bytes }: Pick<Inode, "id" | "mode" | "bytes">): FileAttributes {
  const time = { atime: 0, atimeNs: 0, mtime: 0, mtimeNs: 0, ctime: 0, ctimeNs: 0 };
  const owner = { uid: 0, gid: 0, links: 1 };
  const { length: size } = bytes;
  return { inodeLow: id, inodeHigh: 0, size, blocks: size >> 9, ...time, mode, ...owner, blockSize: 4096 };
}
