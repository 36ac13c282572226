import type { E820Entry } from "./e820.ts";
import {
  BOOT_FLAG,
  BOOT_PROTOCOL,
  HEADER_MAGIC,
  Hdr,
  SETUP_HEADER_OFFSET,
  XLF_KERNEL_64,
} from "./bzimage.ts";

/** `struct boot_params` (Linux, arch/x86/include/uapi/asm/bootparam.h). */
export const BOOT_PARAMS_SIZE = 4096;
const ACPI_RSDP_ADDR = 0x070;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_ENTRY_SIZE = 20;
const E820_MAX_ENTRIES = 128;

/** A boot loader without a number of its own. */
const TYPE_OF_LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1 << 0;
const VID_MODE_NORMAL = 0xffff;
/** What a kernel without a header of its own is taken to accept: as Linux has had it since 2.6.23. */
const DEFAULT_CMDLINE_SIZE = 2047;
const DEFAULT_INITRD_ADDR_MAX = 0x7fff_ffff;

export interface BootParams {
  /** The kernel's own header, from 0x1F1; a plain ELF has none. */
  readonly setupHeader?: Uint8Array | undefined;
  readonly cmdlineGpa: number;
  readonly initrd?: { readonly gpa: number; readonly length: number } | undefined;
  readonly rsdpGpa?: number | undefined;
  readonly e820: readonly E820Entry[];
}

/** The zero page a 64-bit kernel finds in RSI (Linux, Documentation/arch/x86/zero-page.rst). */
export function buildBootParams(params: BootParams): Uint8Array {
  const page = new Uint8Array(BOOT_PARAMS_SIZE);
  const data = new DataView(page.buffer);
  if (params.setupHeader === undefined) writeOwnHeader(data);
  else page.set(params.setupHeader, SETUP_HEADER_OFFSET);

  data.setUint16(Hdr.VID_MODE, VID_MODE_NORMAL, true);
  data.setUint8(Hdr.TYPE_OF_LOADER, TYPE_OF_LOADER_UNDEFINED);
  data.setUint8(Hdr.LOADFLAGS, data.getUint8(Hdr.LOADFLAGS) | LOADED_HIGH);
  data.setUint32(Hdr.CMD_LINE_PTR, params.cmdlineGpa, true);
  data.setUint32(Hdr.RAMDISK_IMAGE, params.initrd?.gpa ?? 0, true);
  data.setUint32(Hdr.RAMDISK_SIZE, params.initrd?.length ?? 0, true);
  data.setBigUint64(ACPI_RSDP_ADDR, BigInt(params.rsdpGpa ?? 0), true);

  const entries = params.e820.slice(0, E820_MAX_ENTRIES);
  data.setUint8(E820_ENTRIES, entries.length);
  for (const [index, entry] of entries.entries()) {
    const offset = E820_TABLE + index * E820_ENTRY_SIZE;
    data.setBigUint64(offset, BigInt(entry.gpa), true);
    data.setBigUint64(offset + 8, BigInt(entry.length), true);
    data.setUint32(offset + 16, entry.type, true);
  }
  return page;
}

function writeOwnHeader(data: DataView): void {
  data.setUint16(Hdr.BOOT_FLAG, BOOT_FLAG, true);
  data.setUint32(Hdr.HEADER, HEADER_MAGIC, true);
  data.setUint16(Hdr.VERSION, BOOT_PROTOCOL, true);
  data.setUint16(Hdr.XLOADFLAGS, XLF_KERNEL_64, true);
  data.setUint32(Hdr.INITRD_ADDR_MAX, DEFAULT_INITRD_ADDR_MAX, true);
  data.setUint32(Hdr.CMDLINE_SIZE, DEFAULT_CMDLINE_SIZE, true);
}

export { DEFAULT_CMDLINE_SIZE, DEFAULT_INITRD_ADDR_MAX };
