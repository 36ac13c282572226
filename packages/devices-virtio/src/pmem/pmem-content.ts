import type { BlockBackend, GuestMemory, MemorySlot } from "@northbridge/sdk";
import { CopiedContent } from "./copied-content.ts";

/** What a slot of persistent memory holds, and how it gets to the host. */
export interface PmemContent {
  /** Resolves once everything that the guest had written before the call is on stable storage. */
  flush(): Promise<void>;
  stats(): Readonly<Record<string, number>>;
}

/** Puts the storage into the slot, which has its size: mapped where host and back end can do that, else copied. */
export async function pmemContent(
  slot: MemorySlot,
  memory: GuestMemory,
  backend: BlockBackend,
): Promise<PmemContent> {
  const isMapped = backend.mapUnder?.(slot.bytes) === true;
  const content: PmemContent = isMapped
    ? { flush: () => backend.flush(), stats: () => ({ mapped: 1 }) }
    : await CopiedContent.load(slot, backend);
  memory.written(slot.gpa, slot.length);
  return content;
}
