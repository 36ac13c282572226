import type { GuestMemory } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import type { Gdt } from "./start-state.ts";

const PAGE = 4096;
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
/** A page directory entry that maps 2 MiB (Intel SDM 3A §4.5). */
const PAGE_SIZE = 1 << 7;
const GIB_MAPPED = 4;
const ENTRIES = 512;

/** One PML4, one PDPT and a page directory for each of the first four GiB. */
export const IDENTITY_MAP_SIZE: number = (2 + GIB_MAPPED) * PAGE;
export const GDT_SIZE: number = 4 * 8;

/** Descriptors (Intel SDM 3A §3.4.5), flat, present, DPL 0, accessed. */
const CODE_64 = 0x00af_9b00_0000_ffffn;
const CODE_32 = 0x00cf_9b00_0000_ffffn;
const DATA = 0x00cf_9300_0000_ffffn;

/** Writes page tables at `gpa` that map the first 4 GiB onto themselves in 2 MiB pages. */
export function writeIdentityMap(memory: GuestMemory, gpa: number): void {
  const tables = new DataView(new ArrayBuffer(IDENTITY_MAP_SIZE));
  const set = (page: number, index: number, low: number, high: number): void => {
    tables.setUint32(page * PAGE + index * 8, low, true);
    tables.setUint32(page * PAGE + index * 8 + 4, high, true);
  };
  const table = PRESENT | WRITABLE | ACCESSED;
  set(0, 0, (gpa + PAGE) | table, 0);
  for (let gib = 0; gib < GIB_MAPPED; gib++) {
    set(1, gib, (gpa + (2 + gib) * PAGE) | table, 0);
    for (let index = 0; index < ENTRIES; index++) {
      const address = gib * 2 ** 30 + index * 2 ** 21;
      set(2 + gib, index, (address | table | DIRTY | PAGE_SIZE) >>> 0, 0);
    }
  }
  writeTable(memory, gpa, tables, "page tables");
}

/** Writes the descriptors that Linux asks for at 0x10 (code) and 0x18 (data). */
export function writeGdt(memory: GuestMemory, gpa: number, code: "protected" | "long"): Gdt {
  const table = new DataView(new ArrayBuffer(GDT_SIZE));
  table.setBigUint64(0x10, code === "long" ? CODE_64 : CODE_32, true);
  table.setBigUint64(0x18, DATA, true);
  writeTable(memory, gpa, table, "descriptor table");
  return { gpa, limit: GDT_SIZE - 1 };
}

function writeTable(memory: GuestMemory, gpa: number, table: DataView, what: string): void {
  if (memory.write(gpa, new Uint8Array(table.buffer))) return;
  throw new NorthbridgeError(
    "NB_MEMORY",
    `boot: expected guest RAM for the ${what} at 0x${gpa.toString(16)}, found none: raise memory.mib`,
  );
}
