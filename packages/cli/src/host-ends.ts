import { fileDiskKind, type HolePuncher } from "@northbridge/core";
import type { HostEndKind } from "@northbridge/core/contracts";
import { fallocate, FallocateMode } from "@northbridge/linux";

const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FallocateMode;

const holes: HolePuncher = {
  punch: (fd, offset, length) => fallocate(fd, KEEP_SIZE | PUNCH_HOLE, offset, length),
  zero: (fd, offset, length) => fallocate(fd, ZERO_RANGE, offset, length),
};

/** Core's kind with what only this package may: storage that a guest discards goes back to the host. */
export const fileDisk: HostEndKind = fileDiskKind(holes);
