import { type MemorySlot, NorthbridgeError } from "@northbridge/core/contracts";

const PAGE = 4096;

/** A slot as `addMemory` is asked for it. */
export type SlotRequest = Pick<MemorySlot, "name" | "gpa" | "length">;

/**
 * Checks a memory slot that a backend is asked for. Throws `NB_MEMORY` where it is not of whole pages, is one too many
 * or overlaps another.
 * @param backend as people call it: `this KVM`
 */
export function checkMemorySlot(
  { name, gpa, length }: SlotRequest,
  {
    backend,
    most,
    slots,
  }: { readonly backend: string; readonly most: number; readonly slots: readonly SlotRequest[] },
): void {
  const fail = (reason: string): never => {
    throw new NorthbridgeError("NB_MEMORY", `memory slot ${name}: ${reason}`);
  };
  if (gpa % PAGE !== 0 || length % PAGE !== 0 || length <= 0)
    fail(`base and length must be multiples of ${PAGE}, found ${gpa} and ${length}`);
  if (slots.length >= most) fail(`${backend} has ${most} slots`);
  const other = slots.find((placed) => gpa < placed.gpa + placed.length && placed.gpa < gpa + length);
  if (other !== undefined) fail(`overlaps ${other.name}`);
}
