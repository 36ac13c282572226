import { addSeals, close, createMemfd, mapUnder, Seal } from "@northbridge/linux";
import type { MemorySlot } from "@northbridge/sdk";
import type { SharedRegion } from "./ring-server.ts";

/** Guest RAM in files that other processes can map: the memory of a machine, put onto files where it lies. */
export class SharedRam {
  readonly regions: readonly SharedRegion[];

  /** Of a machine whose RAM is shared WebAssembly memory. Throws `SystemCallError`. */
  constructor(slots: readonly MemorySlot[]) {
    const regions: SharedRegion[] = [];
    this.regions = regions;
    try {
      for (const { name, gpa, length, bytes, device } of slots) {
        if (device !== undefined) continue; // a device's own memory may be a file already
        const fd = createMemfd(`guest memory ${name}`, length);
        regions.push({ gpa, size: length, userAddress: gpa, fd, offset: 0 });
        addSeals(fd, Seal.SHRINK | Seal.GROW);
        mapUnder(bytes, fd, `guest memory ${name}`);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The memory stays what it is for this process. */
  close(): void {
    for (const { fd } of this.regions) close(fd);
  }
}
