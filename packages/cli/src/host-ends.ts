import { type FileBlockOptions, fileDiskKind, type FileMapper, type HolePuncher } from "@northbridge/core";
import { type HostEndKind, NorthbridgeError } from "@northbridge/core/contracts";
import { defineHostEnd } from "@northbridge/sdk";
import { fallocate, FallocateMode, HostDirectory, mapOver, SystemCallError } from "@northbridge/linux";
import * as v from "valibot";

const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FallocateMode;

const holes: HolePuncher = {
  punch: (fd, offset, length) => fallocate(fd, KEEP_SIZE | PUNCH_HOLE, offset, length),
  zero: (fd, offset, length) => fallocate(fd, ZERO_RANGE, offset, length),
};

const mapper: FileMapper = {
  map: (fd, bytes) => {
    try {
      // A store into a hole for which the host has no storage left would end this process (SIGBUS).
      if (!fallocate(fd, 0, 0, bytes.length)) return false;
      mapOver(bytes, fd, "a file as guest memory");
      return true;
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno !== "ENOSPC") return false;
      const found = `no space for ${bytes.length} bytes, all of which it must have as guest memory`;
      throw new NorthbridgeError("NB_HOST", found, { cause: error });
    }
  },
};

/** As QEMU locks raw images, so that neither it nor another machine has the same disk. */
const lock: FileBlockOptions["lock"] = async (path, fd, writes) => {
  const { lockImage, weakenLock } = await import("@northbridge/storage-qcow2");
  lockImage(path, fd, writes, "readers");
  return () => {
    weakenLock(path, fd, false, "anything");
  };
};

/**
 * Core's kind with what only this package may: storage that a guest discards goes back to the host, a file can be guest
 * memory, and one that somebody writes is nobody else's disk.
 */
export const fileDisk: HostEndKind = fileDiskKind({ holes, mapper, lock });

const id = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff_fffe));
const Directory = v.strictObject({
  path: v.pipe(v.string("expected a path"), v.nonEmpty("expected a path")),
  squash: v.optional(v.strictObject({ uid: id, gid: id })),
});

/** `{ kind: directory, path: shared, squash: { uid: 0, gid: 0 } }`: a directory of the host and what is under it. */
export const hostDirectory: HostEndKind<"directory"> = defineHostEnd({
  kind: "directory",
  of: "directory",
  options: Directory,
  open: ({ path, squash }, { readOnly }) => {
    try {
      return HostDirectory.open(path, { readOnly, squash });
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      const reason = REASONS[error.errno] ?? error.errno;
      throw new NorthbridgeError("NB_CONFIG", `${path}: expected a directory: ${reason}`, { cause: error });
    }
  },
});

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is none",
  ENOTDIR: "it is something else",
  EACCES: "permission denied",
};
