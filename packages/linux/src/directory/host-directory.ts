import { fdatasync, fsync, readvSync, statfsSync, writevSync } from "node:fs";
import { open as openPath } from "../files.ts";
import { AtCalls, FileType, Open, type SetTime } from "./at-calls.ts";
import { Errno } from "./errno.ts";
import { HandleTable, type ListedEntry, Listing, ListingBuffers } from "./handle-table.ts";
import { NodeTable, type TreeNode } from "./node-table.ts";
import { keyOf, type Squash, TreeAttributes } from "./tree-attributes.ts";
import { NAME_MAX, nameFault } from "./tree-name.ts";
import { restoreTree, savedHandles, saveTree } from "./tree-state.ts";

const ROOT = 1;
const PATH_MAX = 4096;
const PERMISSIONS = 0o7777;
/** The owner may read and write. */
const OWNER = 0o600;
const SETGID = 0o2000;
/** What a guest may say of how it opens a file; the rest is ours to decide. */
const GUEST_FLAGS =
  Open.ACCESS |
  Open.TRUNC |
  Open.APPEND |
  Open.NONBLOCK |
  Open.DSYNC |
  Open.SYNC |
  Open.LARGEFILE |
  Open.NOATIME;
/** What this process has of a file's name: neither a link nor anybody else's file. */
const NEW = Open.CREAT | Open.EXCL | Open.NOFOLLOW;

export interface HostDirectoryOptions {
  readonly readOnly?: boolean | undefined;
  /** The guest sees every file as this owner's, and its own changes of owners have no effect. */
  readonly squash?: Squash | undefined;
  /** How many descriptors this process can have: the last of them are not the tree's. @defaultValue RLIMIT_NOFILE */
  readonly mostFds?: number | undefined;
}

interface Changes {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly atime?: SetTime;
  readonly mtime?: SetTime;
}

/**
 * A directory tree of this host that nothing leaves: each step is one name looked up inside a directory that is open
 * already (openat(2) with O_NOFOLLOW), so neither `..`, nor a symbolic link, nor a rename at the wrong moment leads out
 * of it. A file once found is held by an O_PATH descriptor. Answers with negative errnos and throws nothing.
 */
export class HostDirectory {
  readonly root: number = ROOT;
  readonly readOnly: boolean;
  readonly attributes: TreeAttributes = new TreeAttributes();
  readonly entry: ListedEntry = {
    inodeLow: 0,
    inodeHigh: 0,
    nextLow: 0,
    nextHigh: 0,
    type: 0,
    name: new Uint8Array(),
  };
  createdNode = 0;
  readonly #calls: AtCalls;
  readonly #nodes = new NodeTable();
  readonly #handles = new HandleTable();
  readonly #listingBuffers = new ListingBuffers();
  readonly #squash: Squash | undefined;
  /** Only root may give files away. */
  readonly #givesAway: boolean;

  private constructor(fd: number, options: HostDirectoryOptions) {
    this.readOnly = options.readOnly ?? false;
    this.#calls = new AtCalls(options.mostFds);
    this.#squash = options.squash;
    this.#givesAway = process.geteuid?.() === 0 && options.squash === undefined;
    this.#calls.stat(fd);
    this.#nodes.add(fd, keyOf(this.#calls.statx), FileType.DIRECTORY, ROOT);
  }

  /** Throws `SystemCallError` where there is no such directory. */
  static open(path: string, options: HostDirectoryOptions = {}): HostDirectory {
    return new HostDirectory(openPath(path, Open.PATH | Open.DIRECTORY), options);
  }

  lookup(parent: number, name: Uint8Array): number {
    const directory = this.#fdOf(parent);
    const fault = directory < 0 ? directory : nameFault(name);
    return fault < 0 ? fault : this.#find(directory, name);
  }

  forget(id: number, count: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined || id === ROOT) return;
    node.found -= count;
    if (node.found <= 0) this.#drop(node);
  }

  getAttributes(id: number): number {
    const fd = this.#fdOf(id);
    return fd < 0 ? fd : this.#stat(fd);
  }

  setAttributes(id: number, changes: Changes, handle: number | undefined): number {
    const node = this.#nodes.get(id);
    if (node === undefined || node.fd < 0) return -Errno.ESTALE;
    if (this.readOnly) return -Errno.EROFS;
    const done = this.#change(node, changes, handle);
    return done < 0 ? done : this.#stat(node.fd);
  }

  readLink(id: number): Uint8Array | number {
    const fd = this.#fdOf(id);
    return fd < 0 ? fd : this.#calls.readLink(fd);
  }

  makeNode(parent: number, name: Uint8Array, mode: number, owner: Squash): number {
    const type = mode & FileType.MASK;
    // Device files would open the host's devices to whoever can reach the directory.
    if (type !== FileType.REGULAR && type !== FileType.FIFO && type !== FileType.SOCKET) return -Errno.EPERM;
    return this.#make(parent, name, owner, mode, (fd) => this.#calls.makeNode(fd, name, mode));
  }

  makeDirectory(parent: number, name: Uint8Array, mode: number, owner: Squash): number {
    return this.#make(parent, name, owner, mode, (fd) => this.#calls.makeDirectory(fd, name, mode));
  }

  makeSymbolicLink(parent: number, name: Uint8Array, target: Uint8Array, owner: Squash): number {
    if (target.length >= PATH_MAX) return -Errno.ENAMETOOLONG;
    return this.#make(parent, name, owner, undefined, (fd) => this.#calls.makeSymbolicLink(target, fd, name));
  }

  makeLink(id: number, parent: number, name: Uint8Array): number {
    const from = this.#fdOf(id);
    const to = this.#changeable(parent, name);
    if (from < 0 || to < 0) return Math.min(from, to);
    const made = this.#calls.makeLink(from, to, name);
    return made < 0 ? made : this.#find(to, name);
  }

  unlink(parent: number, name: Uint8Array): number {
    const fd = this.#changeable(parent, name);
    return fd < 0 ? fd : this.#calls.unlink(fd, name, false);
  }

  removeDirectory(parent: number, name: Uint8Array): number {
    const fd = this.#changeable(parent, name);
    return fd < 0 ? fd : this.#calls.unlink(fd, name, true);
  }

  rename(parent: number, name: Uint8Array, newParent: number, newName: Uint8Array, flags: number): number {
    const from = this.#changeable(parent, name);
    const to = this.#changeable(newParent, newName);
    if (from < 0 || to < 0) return Math.min(from, to);
    return this.#calls.rename(from, name, to, newName, flags);
  }

  open(id: number, flags: number): number {
    const fd = this.#openFile(id, flags);
    return fd < 0 ? fd : this.#handles.add({ fd, node: id, flags, listing: undefined });
  }

  openDirectory(id: number): number {
    const fd = this.#openListing(id);
    return fd < 0
      ? fd
      : this.#handles.add({ fd, node: id, flags: Open.DIRECTORY, listing: this.#newListing() });
  }

  create(parent: number, name: Uint8Array, flags: number, mode: number, owner: Squash): number {
    const directory = this.#changeable(parent, name);
    if (directory < 0) return directory;
    // As open(2) does it: its maker may write to a file that nobody else may, nor this process later.
    const fd = this.#calls.openAt(
      directory,
      name,
      NEW | (flags & GUEST_FLAGS & ~Open.TRUNC),
      mode & PERMISSIONS,
    );
    if (fd === -Errno.EEXIST && (flags & Open.EXCL) === 0) return this.#openExisting(parent, name, flags);
    if (fd < 0) return fd;
    const node = this.#keep(this.#calls.reopen(fd, Open.PATH));
    if (node < 0) {
      this.#calls.close(fd);
      return node;
    }
    this.#give(node, directory, owner, mode);
    this.createdNode = node;
    return this.#handles.add({ fd, node, flags, listing: undefined });
  }

  read(handle: number, offset: number, into: readonly Uint8Array[]): number {
    const length = into.reduce((sum, part) => sum + part.length, 0);
    return offset + length > Number.MAX_SAFE_INTEGER ? 0 : this.#transfer(readvSync, handle, offset, into);
  }

  write(handle: number, offset: number, from: readonly Uint8Array[]): number {
    const length = from.reduce((sum, part) => sum + part.length, 0);
    // No position of a number's: node:fs would write at the file's own.
    if (offset + length > Number.MAX_SAFE_INTEGER) return -Errno.EFBIG;
    return this.#transfer(writevSync, handle, offset, from);
  }

  sync(handle: number, dataOnly: boolean): Promise<number> {
    const fd = this.#openFd(handle);
    if (fd < 0) return Promise.resolve(fd);
    return new Promise((resolve) => {
      (dataOnly ? fdatasync : fsync)(fd, (error) => {
        resolve(error === null ? 0 : errnoOf(error));
      });
    });
  }

  allocate(handle: number, mode: number, offset: number, length: number): number {
    const fd = this.#openFd(handle);
    if (fd < 0) return fd;
    return this.readOnly ? -Errno.EROFS : this.#calls.allocate(fd, mode, offset, length);
  }

  seek(handle: number, offset: number, whence: number): number {
    const fd = this.#openFd(handle);
    return fd < 0 ? fd : this.#calls.seek(fd, offset, whence);
  }

  entryAt(handle: number, low: number, high: number): number {
    const directory = this.#handles.get(handle);
    if (directory?.listing === undefined) return -Errno.EBADF;
    if (directory.fd < 0) return -Errno.ESTALE;
    return directory.listing.read(this.#calls, directory.fd, low, high, this.entry);
  }

  close(handle: number): void {
    const closed = this.#handles.remove(handle);
    if (closed !== undefined && closed.fd >= 0) this.#calls.close(closed.fd);
  }

  statistics(id: number):
    | {
        readonly blockSize: number;
        readonly blocks: number;
        readonly blocksFree: number;
        readonly blocksAvailable: number;
        readonly files: number;
        readonly filesFree: number;
        readonly nameLength: number;
      }
    | number {
    const fd = this.#fdOf(id);
    if (fd < 0) return fd;
    try {
      const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(`/proc/self/fd/${fd}`);
      return {
        blockSize: bsize,
        blocks,
        blocksFree: bfree,
        blocksAvailable: bavail,
        files,
        filesFree: ffree,
        nameLength: NAME_MAX,
      };
    } catch (error) {
      return errnoOf(error);
    }
  }

  save(): unknown {
    return saveTree(this.#calls, this.#nodes, this.#handles, ROOT);
  }

  restore(state: unknown): void {
    this.forgetAll();
    restoreTree(this.#calls, this.#nodes, ROOT, state);
    for (const { id, node, flags } of savedHandles(state)) {
      const isDirectory = (flags & Open.DIRECTORY) !== 0;
      const fd = isDirectory ? this.#openListing(node) : this.#openAgain(node, flags & ~Open.TRUNC);
      const listing = isDirectory ? this.#newListing() : undefined;
      this.#handles.add({ fd: Math.max(fd, -1), node, flags, listing }, id);
    }
  }

  forgetAll(): void {
    for (const [id] of [...this.#handles.entries]) this.close(id);
    for (const node of [...this.#nodes.nodes]) if (node.id !== ROOT) this.#drop(node);
  }

  closeTree(): Promise<void> {
    this.forgetAll();
    const root = this.#nodes.get(ROOT);
    if (root !== undefined) this.#drop(root);
    return Promise.resolve();
  }

  /** Steps one name down. */
  #find(directory: number, name: Uint8Array): number {
    return this.#keep(this.#calls.openAt(directory, name, Open.PATH | Open.NOFOLLOW));
  }

  /** The node of an O_PATH descriptor, which is the tree's from now on; an errno is passed on. */
  #keep(fd: number): number {
    if (fd < 0) return fd;
    const done = this.#stat(fd);
    if (done < 0) {
      this.#calls.close(fd);
      return done;
    }
    const key = keyOf(this.#calls.statx);
    const known = this.#nodes.of(key);
    if (known !== undefined) {
      this.#calls.close(fd);
      known.found++;
      return known.id;
    }
    return this.#nodes.add(fd, key, this.attributes.mode & FileType.MASK).id;
  }

  /** Makes a file, finds it, and gives it to its owner. */
  #make(
    parent: number,
    name: Uint8Array,
    owner: Squash,
    mode: number | undefined,
    make: (directory: number) => number,
  ): number {
    const directory = this.#changeable(parent, name);
    if (directory < 0) return directory;
    const made = make(directory);
    if (made < 0) return made;
    const id = this.#find(directory, name);
    if (id >= 0) this.#give(id, directory, owner, mode);
    return id;
  }

  /** Gives a new file to its owner with the permissions asked for, whatever our umask is. */
  #give(id: number, directory: number, owner: Squash, mode: number | undefined): void {
    const fd = this.#fdOf(id);
    if (fd < 0) return;
    if (this.#givesAway) {
      this.#calls.stat(directory);
      const isInherited = (this.#calls.statx.view.getUint16(28, true) & SETGID) !== 0;
      this.#calls.changeOwner(fd, owner.uid, isInherited ? undefined : owner.gid);
      this.#stat(fd); // that may have taken set-user-ID away
    }
    if (mode !== undefined && (this.attributes.mode & PERMISSIONS) !== (mode & PERMISSIONS)) {
      const inherited = this.attributes.mode & SETGID;
      this.#calls.changeMode(fd, (mode & PERMISSIONS) | inherited);
    }
    this.#stat(fd);
  }

  /** What is there already was made by somebody else meanwhile: it is opened as any file is. */
  #openExisting(parent: number, name: Uint8Array, flags: number): number {
    const node = this.lookup(parent, name);
    if (node < 0) return node;
    this.createdNode = node;
    const handle = this.open(node, flags);
    if (handle < 0) this.forget(node, 1);
    return handle;
  }

  /** A descriptor of a node's file, opened as the guest may. */
  #openFile(id: number, flags: number): number {
    const node = this.#nodes.get(id);
    if (node === undefined || node.fd < 0) return -Errno.ESTALE;
    // Opening a device or a FIFO does something on the host: those of the guest's are its own.
    if (node.type === FileType.DIRECTORY) return -Errno.EISDIR;
    if (node.type !== FileType.REGULAR) return node.type === FileType.LINK ? -Errno.ELOOP : -Errno.EINVAL;
    const fault = this.#writeFault(flags);
    return fault < 0 ? fault : this.#calls.reopen(node.fd, flags & GUEST_FLAGS);
  }

  /** A descriptor as there was before: a file's maker may have one whatever its permissions have become. */
  #openAgain(id: number, flags: number): number {
    const fd = this.#openFile(id, flags);
    const node = this.#fdOf(id);
    if (fd !== -Errno.EACCES || this.readOnly || this.#calls.stat(node) < 0) return fd;
    const mode = this.#calls.statx.view.getUint16(28, true) & PERMISSIONS;
    if (this.#calls.changeMode(node, mode | OWNER) < 0) return fd; // somebody else's
    const again = this.#openFile(id, flags);
    this.#calls.changeMode(node, mode);
    return again;
  }

  #openListing(id: number): number {
    const node = this.#fdOf(id);
    return node < 0 ? node : this.#calls.reopen(node, Open.RDONLY | Open.DIRECTORY);
  }

  #newListing(): Listing {
    return new Listing(this.#listingBuffers);
  }

  #change(node: TreeNode, changes: Changes, handle: number | undefined): number {
    const { mode, uid, gid, size, atime, mtime } = changes;
    const calls = this.#calls;
    if (mode !== undefined) {
      if (node.type === FileType.LINK) return -Errno.EOPNOTSUPP;
      const done = calls.changeMode(node.fd, mode & PERMISSIONS);
      if (done < 0) return done;
    }
    if ((uid !== undefined || gid !== undefined) && this.#squash === undefined) {
      const done = calls.changeOwner(node.fd, uid, gid);
      if (done < 0) return done;
    }
    if (size !== undefined) {
      if (node.type !== FileType.REGULAR) return -Errno.EINVAL;
      const open = handle === undefined ? undefined : this.#handles.get(handle);
      const done =
        open === undefined || open.fd < 0 ? calls.truncate(node.fd, size) : calls.truncateOpen(open.fd, size);
      if (done < 0) return done;
    }
    return atime === undefined && mtime === undefined ? 0 : calls.setTimes(node.fd, atime, mtime);
  }

  #transfer(
    call: (fd: number, parts: readonly Uint8Array[], position: number) => number,
    handle: number,
    offset: number,
    parts: readonly Uint8Array[],
  ): number {
    const fd = this.#openFd(handle);
    if (fd < 0) return fd;
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    let rest = parts;
    let done = 0;
    try {
      while (done < length) {
        const bytes = call(fd, rest, offset + done);
        done += bytes;
        if (bytes === 0) break;
        if (done < length) rest = behind(parts, done);
      }
      return done;
    } catch (error) {
      return done > 0 ? done : errnoOf(error);
    }
  }

  #writeFault(flags: number): number {
    const writes = (flags & Open.ACCESS) !== Open.RDONLY || (flags & Open.TRUNC) !== 0;
    return this.readOnly && writes ? -Errno.EROFS : 0;
  }

  #changeable(parent: number, name: Uint8Array): number {
    if (this.readOnly) return -Errno.EROFS;
    const fault = nameFault(name);
    return fault < 0 ? fault : this.#fdOf(parent);
  }

  #stat(fd: number): number {
    const done = this.#calls.stat(fd);
    if (done >= 0) this.attributes.fill(this.#calls.statx, this.#squash);
    return done;
  }

  #fdOf(id: number): number {
    const fd = this.#nodes.get(id)?.fd ?? -1;
    return fd < 0 ? -Errno.ESTALE : fd;
  }

  #openFd(handle: number): number {
    const open = this.#handles.get(handle);
    if (open === undefined) return -Errno.EBADF;
    return open.fd < 0 ? -Errno.ESTALE : open.fd;
  }

  #drop(node: TreeNode): void {
    this.#nodes.remove(node);
    if (node.fd >= 0) this.#calls.close(node.fd);
  }
}

function behind(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes;
  return parts.flatMap((part) => {
    const gone = Math.min(skip, part.length);
    skip -= gone;
    return gone === part.length ? [] : [part.subarray(gone)];
  });
}

const errnoOf = (error: unknown): number => {
  const { errno } = error as NodeJS.ErrnoException;
  return typeof errno === "number" && errno < 0 ? errno : -Errno.EIO;
};
