import type { BootConfig, GuestMemory, MemoryMapEntry } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { GDT_SIZE, IDENTITY_MAP_SIZE, writeGdt, writeIdentityMap } from "./early-tables.ts";
import { bootImageError, describeBytes } from "./image-error.ts";
import type { StartState } from "./start-state.ts";
import { longModeState, protectedModeState, realModeState } from "./start-state.ts";

const PAGE = 4096;
/** The early tables of a bare-metal image lie at the top of conventional memory, below the EBDA. */
const CONVENTIONAL_END = 0x9_f000;
const REAL_MODE_END = 0x10_0000;

/**
 * Loads a bare-metal image. In `real` mode it is entered with all segments but CS at 0 and SP at 0x7C00; in
 * `protected` with flat 32-bit segments; in `long` with the first 4 GiB mapped onto themselves. In the last two the
 * stack begins below the descriptor and page tables, in the last seven pages below 0x9F000 (or the end of RAM).
 */
export function loadFlat(
  memory: GuestMemory,
  memoryMap: readonly MemoryMapEntry[],
  flat: NonNullable<BootConfig["flat"]>,
  bytes: Uint8Array,
): StartState {
  const { image, gpa, mode, entry = gpa } = flat;
  if (bytes.length === 0) throw bootImageError(image, "a flat image", describeBytes(bytes));
  if (!memory.write(gpa, bytes)) {
    throw bootImageError(
      image,
      `guest RAM for ${bytes.length} bytes at boot.flat.gpa 0x${gpa.toString(16)}`,
      "less",
    );
  }
  if (entry < gpa || entry >= gpa + bytes.length) {
    throw new ConfigError(
      "NB_CONFIG",
      "boot.flat.entry",
      `expected an address inside the image, found 0x${entry.toString(16)}`,
    );
  }
  if (mode === "real") {
    if (entry >= REAL_MODE_END) {
      throw new ConfigError(
        "NB_CONFIG",
        "boot.flat.entry",
        `expected below 0x100000 in real mode, found 0x${entry.toString(16)}`,
      );
    }
    return realModeState(entry);
  }
  const tables = tablesGpa(memoryMap);
  if (gpa < tables + PAGE + IDENTITY_MAP_SIZE && gpa + bytes.length > tables) {
    throw new ConfigError(
      "NB_CONFIG",
      "boot.flat.gpa",
      `expected an image that leaves 0x${tables.toString(16)} to the boot tables, ` +
        `found 0x${gpa.toString(16)} with ${bytes.length} bytes`,
    );
  }
  const stack = { rsp: BigInt(tables) };
  const gdt = writeGdt(memory, tables + PAGE - GDT_SIZE, mode);
  if (mode === "protected") return protectedModeState(entry, gdt, stack);
  const pageTables = tables + PAGE;
  writeIdentityMap(memory, pageTables);
  return longModeState(entry, gdt, pageTables, stack);
}

function tablesGpa(memoryMap: readonly MemoryMapEntry[]): number {
  const low = memoryMap.find(({ gpa, kind }) => gpa === 0 && kind === "ram");
  return Math.min(low?.length ?? 0, CONVENTIONAL_END) - PAGE - IDENTITY_MAP_SIZE;
}
