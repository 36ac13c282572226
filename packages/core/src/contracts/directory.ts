/** Attributes of a file, as statx(2) has them. Times are seconds since 1970 and nanoseconds. */
export interface FileAttributes {
  readonly inodeLow: number;
  readonly inodeHigh: number;
  /** Bytes. */
  readonly size: number;
  /** Storage, in units of 512 bytes. */
  readonly blocks: number;
  readonly atime: number;
  readonly atimeNs: number;
  readonly mtime: number;
  readonly mtimeNs: number;
  readonly ctime: number;
  readonly ctimeNs: number;
  /** Type and permissions, as `st_mode`. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly blockSize: number;
}

/** What to change of a file; what is absent stays. */
export interface AttributeChanges {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly atime?: FileTime | undefined;
  readonly mtime?: FileTime | undefined;
}

export type FileTime = "now" | { readonly seconds: number; readonly nanoseconds: number };

/** Who asks for a new file, in the guest. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** One name in a directory. `name` and the object itself are used again for the next. */
export interface DirectoryEntry {
  readonly inodeLow: number;
  readonly inodeHigh: number;
  /** Where to go on behind this entry: an opaque number of 64 bits. */
  readonly nextLow: number;
  readonly nextHigh: number;
  /** `d_type` of readdir(3). */
  readonly type: number;
  readonly name: Uint8Array;
}

/** statfs(2), in units of `blockSize` bytes. */
export interface FileSystemStatistics {
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameLength: number;
}

/**
 * A directory tree of the host for guests, and nothing outside of it. Files are nodes: numbers that stand for inodes
 * until they are forgotten as often as they were found. Names are one path component in bytes. Every call answers
 * with a negative errno of Linux where it fails, and never throws for what a guest asked; those that find or change a
 * node leave its attributes in `attributes`. Symbolic links are files that are read, never followed.
 */
export interface DirectoryBackend {
  /** The top of the tree. Never forgotten. */
  readonly root: number;
  readonly readOnly: boolean;
  /** Of the node that the last call was about. */
  readonly attributes: FileAttributes;
  /** The node of that name; it counts as found once more. */
  lookup(parent: number, name: Uint8Array): number;
  forget(node: number, count: number): void;
  getAttributes(node: number): number;
  /** @param handle one of the node's own that is open for writing, where there is one */
  setAttributes(node: number, changes: AttributeChanges, handle: number | undefined): number;
  /** The target of a symbolic link. */
  readLink(node: number): Uint8Array | number;
  /** These make a file and answer with its node, found once. */
  makeNode(parent: number, name: Uint8Array, mode: number, owner: FileOwner): number;
  makeDirectory(parent: number, name: Uint8Array, mode: number, owner: FileOwner): number;
  makeSymbolicLink(parent: number, name: Uint8Array, target: Uint8Array, owner: FileOwner): number;
  makeLink(node: number, parent: number, name: Uint8Array): number;
  unlink(parent: number, name: Uint8Array): number;
  removeDirectory(parent: number, name: Uint8Array): number;
  /** @param flags of renameat2(2) */
  rename(parent: number, name: Uint8Array, newParent: number, newName: Uint8Array, flags: number): number;
  /** A handle of a regular file. @param flags of open(2), x86-64 */
  open(node: number, flags: number): number;
  /** A handle of a directory. */
  openDirectory(node: number): number;
  /** A handle of a file that is made unless it is there (and `flags` do not mind); `createdNode` is its node, found once. */
  create(parent: number, name: Uint8Array, flags: number, mode: number, owner: FileOwner): number;
  readonly createdNode: number;
  /** Bytes read; fewer than there is room only at the end of the file. */
  read(handle: number, offset: number, into: readonly Uint8Array[]): number;
  write(handle: number, offset: number, from: readonly Uint8Array[]): number;
  /** Resolves with 0 once what was written is on stable storage, or with the errno. */
  sync(handle: number, dataOnly: boolean): Promise<number>;
  /** fallocate(2). */
  allocate(handle: number, mode: number, offset: number, length: number): number;
  /** lseek(2) to data (3) or a hole (4). */
  seek(handle: number, offset: number, whence: number): number;
  /** The entry at this position: `entry` is it, until the next call. 0: there is none. 1: there is. */
  entryAt(handle: number, positionLow: number, positionHigh: number): number;
  readonly entry: DirectoryEntry;
  close(handle: number): void;
  statistics(node: number): FileSystemStatistics | number;
  /** Nodes and handles, by path: JSON-safe. */
  save(): unknown;
  /** Finds again what it can; what is gone answers with ESTALE. Throws `RestoreError` for what is no saved state. */
  restore(state: unknown): void;
  /** Everything but the root is forgotten, every handle closed: the guest has unmounted or was reset. */
  forgetAll(): void;
  closeTree(): Promise<void>;
}
