import type { DirectoryEntry, FileAttributes, FileSystemStatistics } from "@northbridge/sdk";
import type { DescriptorChain } from "@northbridge/sdk/virtio";
import { Attr, AttrOut, Dirent, EntryOut, Errno, OpenOut, OutHeader, Statfs } from "./spec.ts";

const WORD = 2 ** 32;
/** A listing is cut to this: the guest asks again for the rest. */
const MOST_LISTED = 65_536;

/** Builds one answer at a time, behind a `fuse_out_header`. */
export class FuseReply {
  readonly #bytes = new Uint8Array(OutHeader.LENGTH + MOST_LISTED);
  readonly #view = new DataView(this.#bytes.buffer);
  /** How long the guest may believe names and attributes. */
  readonly #validSeconds: number;
  readonly #validNs: number;
  #length = 0;

  constructor(cacheMs: number) {
    this.#validSeconds = Math.floor(cacheMs / 1000);
    this.#validNs = (cacheMs % 1000) * 1e6;
  }

  /** Begins an answer of this many bytes, zeroes at first. */
  begin(length: number): void {
    this.#length = OutHeader.LENGTH + length;
    this.#bytes.fill(0, 0, this.#length);
  }

  u16(at: number, value: number): void {
    this.#view.setUint16(OutHeader.LENGTH + at, value, true);
  }

  u32(at: number, value: number): void {
    this.#view.setUint32(OutHeader.LENGTH + at, value, true);
  }

  u64(at: number, value: number): void {
    this.u32(at, value >>> 0);
    this.u32(at + 4, Math.floor(value / WORD));
  }

  entry(at: number, node: number, attributes: FileAttributes): void {
    this.u64(at + EntryOut.NODE, node);
    this.u64(at + EntryOut.ENTRY_VALID, this.#validSeconds);
    this.u64(at + EntryOut.ATTR_VALID, this.#validSeconds);
    this.u32(at + EntryOut.ENTRY_VALID_NSEC, this.#validNs);
    this.u32(at + EntryOut.ATTR_VALID_NSEC, this.#validNs);
    this.#attr(at + EntryOut.ATTR, attributes);
  }

  attributes(attributes: FileAttributes): void {
    this.begin(AttrOut.LENGTH);
    this.u64(AttrOut.VALID, this.#validSeconds);
    this.u32(AttrOut.VALID_NSEC, this.#validNs);
    this.#attr(AttrOut.ATTR, attributes);
  }

  opened(at: number, handle: number, flags: number): void {
    this.u64(at + OpenOut.FH, handle);
    this.u32(at + OpenOut.OPEN_FLAGS, flags);
  }

  bytes(bytes: Uint8Array): void {
    this.begin(bytes.length);
    this.#bytes.set(bytes, OutHeader.LENGTH);
  }

  statistics(found: FileSystemStatistics): void {
    this.begin(Statfs.LENGTH);
    this.u64(Statfs.BLOCKS, found.blocks);
    this.u64(Statfs.BFREE, found.blocksFree);
    this.u64(Statfs.BAVAIL, found.blocksAvailable);
    this.u64(Statfs.FILES, found.files);
    this.u64(Statfs.FFREE, found.filesFree);
    this.u32(Statfs.BSIZE, found.blockSize);
    this.u32(Statfs.NAMELEN, found.nameLength);
    this.u32(Statfs.FRSIZE, found.blockSize);
  }

  /** Begins a listing of entries. */
  list(): void {
    this.begin(0);
  }

  /** Bytes that one more entry takes, `before` it included. */
  static listedLength(name: Uint8Array, before: number): number {
    return before + Math.ceil((Dirent.NAME + name.length) / Dirent.ALIGN) * Dirent.ALIGN;
  }

  /** Whether the listing has room for so many bytes more, where the guest has room for `room` in all. */
  fits(length: number, room: number): boolean {
    return this.#length - OutHeader.LENGTH + length <= Math.min(room, MOST_LISTED);
  }

  /** Adds an entry, `before` bytes into what it adds. Returns where that begins. */
  listed(entry: DirectoryEntry, before: number): number {
    const start = this.#length - OutHeader.LENGTH;
    const length = FuseReply.listedLength(entry.name, before);
    this.#bytes.fill(0, this.#length, this.#length + length);
    this.#length += length;
    const at = start + before;
    this.u32(at + Dirent.INO, entry.inodeLow);
    this.u32(at + Dirent.INO + 4, entry.inodeHigh);
    this.u32(at + Dirent.OFF, entry.nextLow);
    this.u32(at + Dirent.OFF + 4, entry.nextHigh);
    this.u32(at + Dirent.NAMELEN, entry.name.length);
    this.u32(at + Dirent.TYPE, entry.type);
    this.#bytes.set(entry.name, OutHeader.LENGTH + at + Dirent.NAME);
    return start;
  }

  /** Sends the answer. Returns the bytes written. */
  send(chain: DescriptorChain, uniqueLow: number, uniqueHigh: number): number {
    return this.#header(chain, this.#length, 0, uniqueLow, uniqueHigh);
  }

  /** Sends a negative errno, or the header in front of `length` bytes that are in place already. */
  status(chain: DescriptorChain, result: number, uniqueLow: number, uniqueHigh: number): number {
    this.#length = OutHeader.LENGTH;
    const length = OutHeader.LENGTH + Math.max(0, result);
    return this.#header(chain, length, Math.min(0, result), uniqueLow, uniqueHigh);
  }

  #header(chain: DescriptorChain, length: number, error: number, low: number, high: number): number {
    const view = this.#view;
    const fits = length <= chain.writableBytes;
    const sent = fits ? this.#length : OutHeader.LENGTH; // a guest without room for its answer gets an error
    view.setUint32(OutHeader.LEN, fits ? length : OutHeader.LENGTH, true);
    view.setInt32(OutHeader.ERROR, fits ? error : -Errno.EIO, true);
    view.setUint32(OutHeader.UNIQUE, low, true);
    view.setUint32(OutHeader.UNIQUE + 4, high, true);
    chain.write(0, this.#bytes.subarray(0, sent));
    return Math.min(fits ? length : OutHeader.LENGTH, chain.writableBytes);
  }

  #attr(at: number, attributes: FileAttributes): void {
    this.u32(at + Attr.INO, attributes.inodeLow);
    this.u32(at + Attr.INO + 4, attributes.inodeHigh);
    this.u64(at + Attr.SIZE, attributes.size);
    this.u64(at + Attr.BLOCKS, attributes.blocks);
    this.u64(at + Attr.ATIME, attributes.atime);
    this.u64(at + Attr.MTIME, attributes.mtime);
    this.u64(at + Attr.CTIME, attributes.ctime);
    this.u32(at + Attr.ATIMENSEC, attributes.atimeNs);
    this.u32(at + Attr.MTIMENSEC, attributes.mtimeNs);
    this.u32(at + Attr.CTIMENSEC, attributes.ctimeNs);
    this.u32(at + Attr.MODE, attributes.mode);
    this.u32(at + Attr.NLINK, attributes.links);
    this.u32(at + Attr.UID, attributes.uid);
    this.u32(at + Attr.GID, attributes.gid);
    this.u32(at + Attr.BLKSIZE, attributes.blockSize);
  }
}
