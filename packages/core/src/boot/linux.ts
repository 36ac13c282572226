import type { BootConfig, FirmwareEntry, GuestMemory, MemoryMapEntry } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { buildBootParams, DEFAULT_CMDLINE_SIZE, DEFAULT_INITRD_ADDR_MAX } from "./boot-params.ts";
import type { BzImage } from "./bzimage.ts";
import { isBzImage, parseBzImage } from "./bzimage.ts";
import { ChunkedBytes } from "./chunked-bytes.ts";
import type { E820Entry } from "./e820.ts";
import { E820_RAM, e820Map } from "./e820.ts";
import { writeGdt, writeIdentityMap } from "./early-tables.ts";
import type { ElfImage } from "./elf64.ts";
import { isElf, loadElf, parseElf64 } from "./elf64.ts";
import { bootImageError, describeBytes } from "./image-error.ts";
import { placeInitrd } from "./initrd-placement.ts";
import { LowMemory } from "./low-memory.ts";
import { unpackPayload } from "./payload.ts";
import { buildPvhStartInfo } from "./pvh.ts";
import type { StartState } from "./start-state.ts";
import { longModeState, protectedModeState } from "./start-state.ts";

/** What a kernel gets where the config says nothing. */
export const DEFAULT_CMDLINE = "console=ttyS0";

/** Offset of the 64-bit entry in protected-mode code (Linux, Documentation/arch/x86/boot.rst, "64-bit boot protocol"). */
const ENTRY_64 = 0x200;

export interface LinuxImages {
  readonly kernel: { readonly file: string; readonly bytes: Uint8Array };
  readonly initrd?: { readonly file: string; readonly bytes: Uint8Array } | undefined;
}

export interface LinuxBoot {
  readonly memory: GuestMemory;
  readonly memoryMap: readonly MemoryMapEntry[];
  readonly firmware: readonly FirmwareEntry[];
  readonly rsdpGpa?: number | undefined;
  readonly cmdline?: string | undefined;
  readonly protocol?: BootConfig["protocol"];
}

/** A kernel in guest memory, and how it is entered. */
interface LoadedKernel {
  readonly entry: number;
  readonly mode: "long" | "pvh";
  /** First byte after everything the kernel uses early. */
  readonly end: number;
  readonly bzImage?: BzImage | undefined;
}

/**
 * Loads a Linux kernel (bzImage or ELF `vmlinux`) and its initrd, writes what the chosen boot protocol hands over,
 * and answers with vCPU 0 at the kernel's entry.
 */
export async function loadLinux(images: LinuxImages, boot: LinuxBoot): Promise<StartState> {
  const { memory } = boot;
  const e820 = e820Map(boot.memoryMap, boot.firmware);
  const kernel = await loadKernel(images.kernel.file, images.kernel.bytes, boot, e820);
  const cmdlineGpa = writeCmdline(memory, boot.cmdline ?? DEFAULT_CMDLINE, kernel.bzImage?.cmdlineSize);
  const initrd = images.initrd && loadInitrd(memory, images.initrd, kernel, e820);
  const common = { cmdlineGpa, initrd, rsdpGpa: boot.rsdpGpa };

  if (kernel.mode === "pvh") {
    const gpa = LowMemory.PVH_START_INFO;
    memory.write(gpa, buildPvhStartInfo(gpa, { ...common, memoryMap: e820 }));
    const gdt = writeGdt(memory, LowMemory.GDT, "protected");
    return protectedModeState(kernel.entry, gdt, { rbx: BigInt(gpa) });
  }
  const setupHeader = kernel.bzImage?.setupHeader;
  memory.write(LowMemory.BOOT_PARAMS, buildBootParams({ ...common, setupHeader, e820 }));
  writeIdentityMap(memory, LowMemory.PAGE_TABLES);
  const gdt = writeGdt(memory, LowMemory.GDT, "long");
  return longModeState(kernel.entry, gdt, LowMemory.PAGE_TABLES, { rsi: BigInt(LowMemory.BOOT_PARAMS) });
}

async function loadKernel(
  file: string,
  bytes: Uint8Array,
  { memory, protocol = "auto" }: LinuxBoot,
  e820: readonly E820Entry[],
): Promise<LoadedKernel> {
  if (isElf(bytes)) {
    if (protocol === "bzimage") throw bootImageError(file, "a bzImage, as boot.protocol says", "an ELF");
    return loadElfKernel(memory, parseElf64(file, new ChunkedBytes([bytes])), protocol);
  }
  if (!isBzImage(bytes)) throw bootImageError(file, "a bzImage or an ELF vmlinux", describeBytes(bytes));
  const bzImage = parseBzImage(file, bytes);
  if (protocol === "bzimage") return loadBzImage(memory, file, bzImage, e820);
  const unpacked = await unpackPayload(file, bzImage.payload);
  const loaded = loadElfKernel(memory, parseElf64(`${file} (unpacked)`, unpacked), protocol);
  unpacked.release();
  // The unpacked kernel uses no more than the packed one says: load address and init_size cover its bss and brk.
  return { ...loaded, end: Math.max(loaded.end, bzImage.prefAddress + bzImage.initSize), bzImage };
}

function loadElfKernel(memory: GuestMemory, elf: ElfImage, protocol: BootConfig["protocol"]): LoadedKernel {
  const end = Math.max(...elf.segments.map(({ gpa, length }) => gpa + length));
  const low = elf.segments.find(({ gpa, length }) => gpa < LowMemory.END && gpa + length > LowMemory.START);
  if (low !== undefined) {
    throw bootImageError(
      elf.file,
      `a kernel that leaves 0x${LowMemory.START.toString(16)}–0x${LowMemory.END.toString(16)} to the boot structures`,
      `one with ${low.length} bytes at 0x${low.gpa.toString(16)}`,
    );
  }
  if (protocol !== "pvh") {
    loadElf(memory, elf);
    return { entry: elf.entry, mode: "long", end };
  }
  if (elf.pvhEntry === undefined) {
    throw bootImageError(elf.file, "an ELF note with a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY)", "none");
  }
  loadElf(memory, elf);
  return { entry: elf.pvhEntry, mode: "pvh", end };
}

function loadBzImage(
  memory: GuestMemory,
  file: string,
  bzImage: BzImage,
  e820: readonly E820Entry[],
): LoadedKernel {
  if (!bzImage.has64BitEntry) throw bootImageError(file, "a kernel with a 64-bit entry", "a 32-bit one");
  const load = bzImage.prefAddress;
  const fits = e820.some(
    ({ type, gpa, length }) => type === E820_RAM && gpa <= load && load + bzImage.initSize <= gpa + length,
  );
  if (!fits || !memory.write(load, bzImage.code)) {
    throw bootImageError(
      file,
      `RAM from 0x${load.toString(16)} to 0x${(load + bzImage.initSize).toString(16)} for the kernel`,
      "less: raise memory.mib",
    );
  }
  return { entry: load + ENTRY_64, mode: "long", end: load + bzImage.initSize, bzImage };
}

function loadInitrd(
  memory: GuestMemory,
  initrd: { readonly file: string; readonly bytes: Uint8Array },
  kernel: LoadedKernel,
  e820: readonly E820Entry[],
): { readonly gpa: number; readonly length: number } {
  const { file, bytes } = initrd;
  if (bytes.length === 0) throw bootImageError(file, "an initrd", describeBytes(bytes));
  const addrMax = kernel.bzImage?.initrdAddrMax ?? DEFAULT_INITRD_ADDR_MAX;
  const gpa = placeInitrd(file, bytes.length, { e820, addrMax, kernelEnd: kernel.end });
  memory.write(gpa, bytes);
  return { gpa, length: bytes.length };
}

function writeCmdline(memory: GuestMemory, cmdline: string, limit = DEFAULT_CMDLINE_SIZE): number {
  const bytes = new TextEncoder().encode(`${cmdline}\0`);
  if (bytes.length - 1 > limit || cmdline.includes("\0")) {
    throw new ConfigError(
      "NB_CONFIG",
      "boot.cmdline",
      `expected at most ${limit} bytes without a zero, found ${bytes.length - 1}`,
    );
  }
  if (!memory.write(LowMemory.CMDLINE, bytes)) {
    throw new NorthbridgeError(
      "NB_MEMORY",
      `boot: expected guest RAM for the command line at 0x${LowMemory.CMDLINE.toString(16)}, found none`,
    );
  }
  return LowMemory.CMDLINE;
}
