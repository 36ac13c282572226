import type { BlockBackend, Clock, GuestMemory, MemorySlot } from "@northbridge/sdk";
import { CopiedContent } from "./copied-content.ts";
import type { PmemContent } from "./pmem-content.ts";

/** Puts the storage into the slot, which has its size: mapped where host and back end can do that, else copied. */
export async function loadContent(
  slot: MemorySlot,
  memory: GuestMemory,
  backend: BlockBackend,
  clock: Clock,
): Promise<PmemContent> {
  const isMapped = backend.mapUnder?.(slot.bytes) === true;
  const content: PmemContent = isMapped
    ? { flush: () => backend.flush(), stats: () => ({ mapped: 1 }) }
    : await CopiedContent.load(slot, backend, clock);
  memory.written(slot.gpa, slot.length);
  return content;
}
