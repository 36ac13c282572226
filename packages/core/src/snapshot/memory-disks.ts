import type { OpenedHostEnd } from "../composition/host-end-opener.ts";
import { MemoryBlock } from "../host/memory-block.ts";

/** A disk that only this process holds, which is saved with the machine: one of `{ kind: memory }`, zeros at first. */
export interface MemoryDisk {
  /** `disk0.disk`: device and option. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

export const memoryDisks = (ends: readonly OpenedHostEnd[]): readonly MemoryDisk[] =>
  ends.flatMap(({ kind, device, option, backend }) =>
    kind === "memory" && backend instanceof MemoryBlock
      ? [{ name: `${device}.${option}`, bytes: backend.bytes }]
      : [],
  );
