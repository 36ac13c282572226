import type { E820Entry } from "./e820.ts";

/** `hvm_start_info` (Xen, public/arch-x86/hvm/start_info.h), version 1. */
const START_INFO_MAGIC = 0x336e_c578;
const START_INFO_VERSION = 1;
const START_INFO_SIZE = 56;
const MODULE_SIZE = 32;
const MEMMAP_ENTRY_SIZE = 24;

export interface PvhStartInfo {
  readonly cmdlineGpa: number;
  readonly initrd?: { readonly gpa: number; readonly length: number } | undefined;
  readonly rsdpGpa?: number | undefined;
  readonly memoryMap: readonly E820Entry[];
}

/** The start info that a PVH kernel finds in EBX, with its module list and memory map behind it, for loading at `gpa`. */
export function buildPvhStartInfo(gpa: number, info: PvhStartInfo): Uint8Array {
  const modules = info.initrd === undefined ? [] : [info.initrd];
  const moduleList = START_INFO_SIZE;
  const memoryMap = moduleList + modules.length * MODULE_SIZE;
  const bytes = new Uint8Array(memoryMap + info.memoryMap.length * MEMMAP_ENTRY_SIZE);
  const data = new DataView(bytes.buffer);
  const u64 = (offset: number, value: number): void => data.setBigUint64(offset, BigInt(value), true);

  data.setUint32(0, START_INFO_MAGIC, true);
  data.setUint32(4, START_INFO_VERSION, true);
  data.setUint32(12, modules.length, true);
  u64(16, modules.length === 0 ? 0 : gpa + moduleList);
  u64(24, info.cmdlineGpa);
  u64(32, info.rsdpGpa ?? 0);
  u64(40, gpa + memoryMap);
  data.setUint32(48, info.memoryMap.length, true);

  for (const [index, module] of modules.entries()) {
    u64(moduleList + index * MODULE_SIZE, module.gpa);
    u64(moduleList + index * MODULE_SIZE + 8, module.length);
  }
  for (const [index, entry] of info.memoryMap.entries()) {
    const offset = memoryMap + index * MEMMAP_ENTRY_SIZE;
    u64(offset, entry.gpa);
    u64(offset + 8, entry.length);
    data.setUint32(offset + 16, entry.type, true);
  }
  return bytes;
}
