import type { AttributeChanges, DirectoryBackend, FileTime } from "@northbridge/sdk";
import type { DescriptorChain } from "@northbridge/sdk/virtio";
import { FuseReply } from "./fuse-reply.ts";
import {
  ArgLength,
  EntryOut,
  Errno,
  Fattr,
  FOPEN_KEEP_CACHE,
  FSYNC_FDATASYNC,
  InHeader,
  Init,
  InitIn,
  InitOut,
  MAX_PAGES,
  MAX_WRITE,
  Opcode,
  OpenOut,
  OutHeader,
  SetattrIn,
  Version,
} from "./spec.ts";

/** Where the arguments of an operation begin. */
const ARGS = InHeader.LENGTH;
/** Two names of 255 bytes, or a name and a link's target, with their ends. */
const MOST_TEXT = 4096 + 256 + 2;
const WANTED =
  Init.ASYNC_READ |
  Init.ATOMIC_O_TRUNC |
  Init.BIG_WRITES |
  Init.AUTO_INVAL_DATA |
  Init.DO_READDIRPLUS |
  Init.READDIRPLUS_AUTO |
  Init.ASYNC_DIO |
  Init.PARALLEL_DIROPS |
  Init.MAX_PAGES |
  Init.CACHE_SYMLINKS;
const MAX_BACKGROUND = 64;
/** More than any driver puts into one request: each takes its time, and none is answered. */
const MAX_FORGETS = 4096;

/** A request that ends later: with 0 or a negative errno. */
export type FuseOutcome = number | Promise<number>;

/**
 * Answers FUSE requests out of a directory of the host. Everything but FSYNC is done at once; extended attributes,
 * locks and access checks are answered with ENOSYS, which leaves them to the guest's kernel.
 */
export class FuseServer {
  readonly #tree: DirectoryBackend;
  readonly #reply: FuseReply;
  readonly #openFlags: number;
  readonly #text = new Uint8Array(MOST_TEXT);
  /** Behind the first name of `#names`. */
  #second: Uint8Array = new Uint8Array();

  constructor(tree: DirectoryBackend, options: { readonly cacheMs: number }) {
    this.#tree = tree;
    this.#reply = new FuseReply(options.cacheMs);
    this.#openFlags = options.cacheMs > 0 ? FOPEN_KEEP_CACHE : 0;
  }

  /** Carries a request out. Answers with the bytes written to the guest. */
  serve(chain: DescriptorChain): FuseOutcome {
    const opcode = chain.readU32(InHeader.OPCODE);
    const low = chain.readU32(InHeader.UNIQUE);
    const high = chain.readU32(InHeader.UNIQUE + 4);
    switch (opcode) {
      case Opcode.FORGET:
        this.#tree.forget(this.#node(chain), chain.readU64(ARGS));
        return 0;
      case Opcode.BATCH_FORGET:
        this.#forgetAll(chain);
        return 0;
      case Opcode.INTERRUPT:
        return 0; // what it would interrupt is done already
      case Opcode.READ:
        return this.#reply.status(chain, this.#read(chain), low, high);
      case Opcode.FSYNC:
      case Opcode.FSYNCDIR:
        return this.#sync(chain).then((result) => this.#reply.status(chain, result, low, high));
      default: {
        const result = this.#answer(opcode, chain);
        return result < 0 ? this.#reply.status(chain, result, low, high) : this.#reply.send(chain, low, high);
      }
    }
  }

  /** Builds the answer: 0, or a negative errno. */
  #answer(opcode: number, chain: DescriptorChain): number {
    const tree = this.#tree;
    const reply = this.#reply;
    const node = this.#node(chain);
    const args = (at: number): number => chain.readU32(ARGS + at);
    reply.begin(0);
    switch (opcode) {
      case Opcode.INIT:
        return this.#init(chain);
      case Opcode.DESTROY:
        tree.forgetAll();
        return 0;
      case Opcode.LOOKUP:
        return this.#entry(tree.lookup(node, this.#names(chain, ARGS)));
      case Opcode.GETATTR:
        return this.#attributes(tree.getAttributes(node));
      case Opcode.SETATTR:
        return this.#setAttributes(node, chain);
      case Opcode.READLINK:
        return this.#readLink(node);
      case Opcode.SYMLINK: {
        const name = this.#names(chain, ARGS);
        return this.#entry(tree.makeSymbolicLink(node, name, this.#second, owner(chain)));
      }
      case Opcode.MKNOD: {
        const name = this.#names(chain, ARGS + ArgLength.MKNOD);
        return this.#entry(tree.makeNode(node, name, args(0), owner(chain)));
      }
      case Opcode.MKDIR: {
        const name = this.#names(chain, ARGS + ArgLength.MKDIR);
        return this.#entry(tree.makeDirectory(node, name, args(0), owner(chain)));
      }
      case Opcode.UNLINK:
        return tree.unlink(node, this.#names(chain, ARGS));
      case Opcode.RMDIR:
        return tree.removeDirectory(node, this.#names(chain, ARGS));
      case Opcode.RENAME:
        return this.#rename(node, chain, ArgLength.RENAME, 0);
      case Opcode.RENAME2:
        return this.#rename(node, chain, ArgLength.RENAME2, args(8));
      case Opcode.LINK: {
        const name = this.#names(chain, ARGS + ArgLength.LINK);
        return this.#entry(tree.makeLink(chain.readU64(ARGS), node, name));
      }
      case Opcode.OPEN:
        return this.#opened(tree.open(node, args(0)), this.#openFlags);
      case Opcode.OPENDIR:
        return this.#opened(tree.openDirectory(node), 0);
      case Opcode.CREATE:
        return this.#create(node, chain);
      case Opcode.WRITE:
        return this.#write(chain);
      case Opcode.STATFS:
        return this.#statistics(node);
      case Opcode.RELEASE:
      case Opcode.RELEASEDIR:
        tree.close(chain.readU64(ARGS));
        return 0;
      case Opcode.FLUSH:
        return 0; // writes are the host's as soon as they are answered
      case Opcode.READDIR:
        return this.#list(chain, 0);
      case Opcode.READDIRPLUS:
        return this.#list(chain, EntryOut.LENGTH, node);
      case Opcode.FALLOCATE:
        return tree.allocate(
          chain.readU64(ARGS),
          args(24),
          chain.readU64(ARGS + 8),
          chain.readU64(ARGS + 16),
        );
      case Opcode.LSEEK:
        return this.#seek(chain);
      default:
        return -Errno.ENOSYS;
    }
  }

  #init(chain: DescriptorChain): number {
    const major = chain.readU32(ARGS + InitIn.MAJOR);
    const minor = chain.readU32(ARGS + InitIn.MINOR);
    if (major < Version.MAJOR || (major === Version.MAJOR && minor < Version.OLDEST_MINOR))
      return -Errno.EPROTO;
    const reply = this.#reply;
    this.#tree.forgetAll(); // a new mount
    reply.begin(InitOut.LENGTH);
    reply.u32(InitOut.MAJOR, Version.MAJOR);
    reply.u32(InitOut.MINOR, Version.MINOR);
    if (major > Version.MAJOR) return 0; // the kernel asks again in our version
    reply.u32(InitOut.MAX_READAHEAD, chain.readU32(ARGS + InitIn.MAX_READAHEAD));
    reply.u32(InitOut.FLAGS, chain.readU32(ARGS + InitIn.FLAGS) & WANTED);
    reply.u16(InitOut.MAX_BACKGROUND, MAX_BACKGROUND);
    reply.u16(InitOut.CONGESTION_THRESHOLD, (MAX_BACKGROUND * 3) / 4);
    reply.u32(InitOut.MAX_WRITE, MAX_WRITE);
    reply.u32(InitOut.TIME_GRAN, 1);
    reply.u16(InitOut.MAX_PAGES, MAX_PAGES);
    return 0;
  }

  #entry(node: number): number {
    if (node < 0) return node;
    this.#reply.begin(EntryOut.LENGTH);
    this.#reply.entry(0, node, this.#tree.attributes);
    return 0;
  }

  #attributes(result: number): number {
    if (result >= 0) this.#reply.attributes(this.#tree.attributes);
    return result;
  }

  #setAttributes(node: number, chain: DescriptorChain): number {
    const u32 = (at: number): number => chain.readU32(ARGS + at);
    const valid = u32(SetattrIn.VALID);
    const given = (bit: number, at: number): number | undefined =>
      (valid & bit) === 0 ? undefined : u32(at);
    const time = (bit: number, now: number, seconds: number, nanoseconds: number): FileTime | undefined => {
      if ((valid & bit) === 0) return undefined;
      if ((valid & now) !== 0) return "now";
      // Signed 64 bits: years before 1970 are times, too.
      return {
        seconds: u32(seconds) + (u32(seconds + 4) | 0) * 2 ** 32,
        nanoseconds: u32(nanoseconds),
      };
    };
    const changes: AttributeChanges = {
      mode: given(Fattr.MODE, SetattrIn.MODE),
      uid: given(Fattr.UID, SetattrIn.UID),
      gid: given(Fattr.GID, SetattrIn.GID),
      size: (valid & Fattr.SIZE) === 0 ? undefined : chain.readU64(ARGS + SetattrIn.SIZE),
      atime: time(Fattr.ATIME, Fattr.ATIME_NOW, SetattrIn.ATIME, SetattrIn.ATIMENSEC),
      mtime: time(Fattr.MTIME, Fattr.MTIME_NOW, SetattrIn.MTIME, SetattrIn.MTIMENSEC),
    };
    const handle = (valid & Fattr.FH) === 0 ? undefined : chain.readU64(ARGS + SetattrIn.FH);
    return this.#attributes(this.#tree.setAttributes(node, changes, handle));
  }

  #readLink(node: number): number {
    const target = this.#tree.readLink(node);
    if (typeof target === "number") return target;
    this.#reply.bytes(target);
    return 0;
  }

  #rename(node: number, chain: DescriptorChain, argLength: number, flags: number): number {
    const name = this.#names(chain, ARGS + argLength);
    return this.#tree.rename(node, name, chain.readU64(ARGS), this.#second, flags);
  }

  #opened(handle: number, flags: number): number {
    if (handle < 0) return handle;
    this.#reply.begin(OpenOut.LENGTH);
    this.#reply.opened(0, handle, flags);
    return 0;
  }

  #create(parent: number, chain: DescriptorChain): number {
    const name = this.#names(chain, ARGS + ArgLength.CREATE);
    const handle = this.#tree.create(
      parent,
      name,
      chain.readU32(ARGS),
      chain.readU32(ARGS + 4),
      owner(chain),
    );
    if (handle < 0) return handle;
    this.#reply.begin(EntryOut.LENGTH + OpenOut.LENGTH);
    this.#reply.entry(0, this.#tree.createdNode, this.#tree.attributes);
    this.#reply.opened(EntryOut.LENGTH, handle, this.#openFlags);
    return 0;
  }

  /** Bytes read straight into the guest's pages, or a negative errno. */
  #read(chain: DescriptorChain): number {
    const room = Math.max(0, chain.writableBytes - OutHeader.LENGTH);
    const size = Math.min(chain.readU32(ARGS + 16), room, MAX_WRITE);
    const into = chain.writable(OutHeader.LENGTH, size);
    const bytes = this.#tree.read(chain.readU64(ARGS), chain.readU64(ARGS + 8), into);
    if (bytes > 0) chain.written(OutHeader.LENGTH, bytes);
    return bytes;
  }

  #write(chain: DescriptorChain): number {
    const data = ARGS + ArgLength.WRITE;
    const size = Math.min(chain.readU32(ARGS + 16), Math.max(0, chain.readableBytes - data), MAX_WRITE);
    const from = chain.readable(data, size);
    const bytes = this.#tree.write(chain.readU64(ARGS), chain.readU64(ARGS + 8), from);
    if (bytes < 0) return bytes;
    this.#reply.begin(8);
    this.#reply.u32(0, bytes);
    return 0;
  }

  #sync(chain: DescriptorChain): Promise<number> {
    const dataOnly = (chain.readU32(ARGS + 8) & FSYNC_FDATASYNC) !== 0;
    return this.#tree.sync(chain.readU64(ARGS), dataOnly);
  }

  #statistics(node: number): number {
    const found = this.#tree.statistics(node);
    if (typeof found === "number") return found;
    this.#reply.statistics(found);
    return 0;
  }

  #seek(chain: DescriptorChain): number {
    const at = this.#tree.seek(chain.readU64(ARGS), chain.readU64(ARGS + 8), chain.readU32(ARGS + 16));
    if (at < 0) return at;
    this.#reply.begin(8);
    this.#reply.u64(0, at);
    return 0;
  }

  /** READDIR, or with `before` bytes of a `fuse_entry_out` in front of each entry, READDIRPLUS. */
  #list(chain: DescriptorChain, before: number, directory = 0): number {
    const tree = this.#tree;
    const reply = this.#reply;
    const handle = chain.readU64(ARGS);
    const room = Math.min(chain.readU32(ARGS + 16), Math.max(0, chain.writableBytes - OutHeader.LENGTH));
    let low = chain.readU32(ARGS + 8);
    let high = chain.readU32(ARGS + 12);
    reply.list();
    for (let isFirst = true; ; isFirst = false) {
      const found = tree.entryAt(handle, low, high);
      if (found < 0) return isFirst ? found : 0;
      const { entry } = tree;
      if (found === 0 || !reply.fits(FuseReply.listedLength(entry.name, before), room)) return 0;
      low = entry.nextLow;
      high = entry.nextHigh;
      const start = reply.listed(entry, before);
      // A node number of 0 says: no attributes. "." and ".." are never looked up, and a file may be gone by now.
      const node = before === 0 || isDots(entry.name) ? 0 : tree.lookup(directory, entry.name);
      if (node > 0) reply.entry(start, node, tree.attributes);
    }
  }

  #forgetAll(chain: DescriptorChain): void {
    const room = (chain.readableBytes - ARGS - ArgLength.BATCH_FORGET) / 16;
    const count = Math.min(chain.readU32(ARGS), room, MAX_FORGETS);
    for (let i = 0; i < count; i++) {
      const at = ARGS + ArgLength.BATCH_FORGET + 16 * i;
      this.#tree.forget(chain.readU64(at), chain.readU64(at + 8));
    }
  }

  #node(chain: DescriptorChain): number {
    return chain.readU64(InHeader.NODE);
  }

  /** The name at `offset`; what follows it, up to its own end, is `#second`. Empty where there is none. */
  #names(chain: DescriptorChain, offset: number): Uint8Array {
    const text = this.#text.subarray(0, chain.read(offset, this.#text));
    const end = text.indexOf(0);
    if (end < 0) {
      this.#second = text.subarray(0, 0);
      return this.#second;
    }
    const rest = text.subarray(end + 1);
    const secondEnd = rest.indexOf(0);
    this.#second = rest.subarray(0, Math.max(0, secondEnd));
    return text.subarray(0, end);
  }
}

const DOT = 0x2e;
const isDots = (name: Uint8Array): boolean =>
  name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));

const owner = (chain: DescriptorChain): { readonly uid: number; readonly gid: number } => ({
  uid: chain.readU32(InHeader.UID),
  gid: chain.readU32(InHeader.GID),
});
