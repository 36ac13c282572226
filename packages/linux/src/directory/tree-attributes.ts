import type { RootedBuffer } from "../rooted-buffer.ts";

/** Makes every file belong to one user, as the guest sees it. */
export interface Squash {
  readonly uid: number;
  readonly gid: number;
}

/** Attributes of the file that was asked for last. */
export class TreeAttributes {
  inodeLow = 0;
  inodeHigh = 0;
  size = 0;
  blocks = 0;
  atime = 0;
  atimeNs = 0;
  mtime = 0;
  mtimeNs = 0;
  ctime = 0;
  ctimeNs = 0;
  mode = 0;
  links = 0;
  uid = 0;
  gid = 0;
  blockSize = 0;

  /** From `struct statx` (statx(2)). */
  fill({ view }: RootedBuffer, squash: Squash | undefined): void {
    const u64 = (at: number): number => view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
    const seconds = (at: number): number => view.getUint32(at, true) + view.getInt32(at + 4, true) * 2 ** 32;
    this.blockSize = view.getUint32(4, true);
    this.links = view.getUint32(16, true);
    this.uid = squash?.uid ?? view.getUint32(20, true);
    this.gid = squash?.gid ?? view.getUint32(24, true);
    this.mode = view.getUint16(28, true);
    this.inodeLow = view.getUint32(32, true);
    this.inodeHigh = view.getUint32(36, true);
    this.size = u64(40);
    this.blocks = u64(48);
    this.atime = seconds(64);
    this.atimeNs = view.getUint32(72, true);
    this.ctime = seconds(96);
    this.ctimeNs = view.getUint32(104, true);
    this.mtime = seconds(112);
    this.mtimeNs = view.getUint32(120, true);
  }
}

/** Tells inodes apart: device and inode number of a `struct statx`. */
export const keyOf = ({ view }: RootedBuffer): string =>
  `${view.getUint32(136, true)}:${view.getUint32(140, true)}:${view.getUint32(36, true)}:${view.getUint32(32, true)}`;
