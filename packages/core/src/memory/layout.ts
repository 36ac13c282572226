import type { MemoryMapEntry } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";

const MIB = 2 ** 20;
/** Where the hole for PCI, IOAPIC and LAPIC begins; RAM that does not fit below goes on at 4 GiB. */
const PCI_HOLE_GPA = 3 * 1024 * MIB;
const HIGH_GPA = 4 * 1024 * MIB;
/** Text and graphics memory of the PC's video adapter. */
const VIDEO_GPA = 0xa_0000;
const FIRMWARE_GPA = 0xc_0000;
const EXTENDED_GPA = 0x10_0000;

/** RAM and reserved ranges of a machine, in ascending order. Throws `NB_CONFIG` where `mib` is no whole, positive number. */
export function memoryMap(layout: "pc" | "flat", mib: number): readonly MemoryMapEntry[] {
  if (!Number.isSafeInteger(mib) || mib < 1) {
    throw new ConfigError("NB_CONFIG", "memory.mib", `expected a whole number from 1, found ${mib}`);
  }
  const bytes = mib * MIB;
  const low = Math.min(bytes, PCI_HOLE_GPA);
  const entries: MemoryMapEntry[] =
    layout === "flat"
      ? [{ gpa: 0, length: low, kind: "ram" }]
      : [
          { gpa: 0, length: VIDEO_GPA, kind: "ram" },
          { gpa: FIRMWARE_GPA, length: EXTENDED_GPA - FIRMWARE_GPA, kind: "reserved" },
          { gpa: EXTENDED_GPA, length: low - EXTENDED_GPA, kind: "ram" },
        ];
  if (bytes > low) entries.push({ gpa: HIGH_GPA, length: bytes - low, kind: "ram" });
  return entries.filter((entry) => entry.length > 0);
}
