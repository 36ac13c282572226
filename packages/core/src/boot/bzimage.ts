import { bootImageError, describeBytes } from "./image-error.ts";

/** Where the setup header lies in a bzImage and in `boot_params` (Linux, Documentation/arch/x86/boot.rst). */
export const SETUP_HEADER_OFFSET = 0x1f1;

/** Offsets of setup header fields, from the start of the file and of `boot_params` alike. */
export const Hdr = {
  SETUP_SECTS: 0x1f1,
  SYSSIZE: 0x1f4,
  VID_MODE: 0x1fa,
  BOOT_FLAG: 0x1fe,
  JUMP: 0x200,
  HEADER: 0x202,
  VERSION: 0x206,
  TYPE_OF_LOADER: 0x210,
  LOADFLAGS: 0x211,
  CODE32_START: 0x214,
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  CMD_LINE_PTR: 0x228,
  INITRD_ADDR_MAX: 0x22c,
  KERNEL_ALIGNMENT: 0x230,
  RELOCATABLE_KERNEL: 0x234,
  XLOADFLAGS: 0x236,
  CMDLINE_SIZE: 0x238,
  PAYLOAD_OFFSET: 0x248,
  PAYLOAD_LENGTH: 0x24c,
  PREF_ADDRESS: 0x258,
  INIT_SIZE: 0x260,
} as const;

export const BOOT_FLAG = 0xaa55;
/** `HdrS`, little-endian. */
export const HEADER_MAGIC = 0x5372_6448;
/** Newest version whose fields are known here: 2.15. */
export const BOOT_PROTOCOL = 0x020f;
/** `xloadflags`: the kernel has the 64-bit entry point at 0x200. */
export const XLF_KERNEL_64: number = 1 << 0;

const SECTOR = 512;
const PARAGRAPH = 16;
/** 2.12 brought `xloadflags`, without which there is no 64-bit entry. */
const OLDEST_PROTOCOL = 0x020c;
/** `setup_sects` of 0 means 4. */
const DEFAULT_SETUP_SECTS = 4;

/** What a loader needs to know of a bzImage. Byte ranges are views of the file. */
export interface BzImage {
  readonly protocol: number;
  /** The setup header, from {@link SETUP_HEADER_OFFSET} to its own end. */
  readonly setupHeader: Uint8Array;
  /** Protected-mode code: what is loaded at `prefAddress`. */
  readonly code: Uint8Array;
  /** The compressed ELF inside `code`. */
  readonly payload: Uint8Array;
  /** Bytes, without the terminating zero. */
  readonly cmdlineSize: number;
  readonly initrdAddrMax: number;
  readonly kernelAlignment: number;
  readonly relocatable: boolean;
  readonly has64BitEntry: boolean;
  readonly prefAddress: number;
  /** Bytes of contiguous memory from the load address that the kernel uses before it looks at the memory map. */
  readonly initSize: number;
}

/** Whether the bytes claim to be a Linux kernel with a setup header. */
export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < Hdr.VERSION + 2) return false;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return (
    data.getUint16(Hdr.BOOT_FLAG, true) === BOOT_FLAG && data.getUint32(Hdr.HEADER, true) === HEADER_MAGIC
  );
}

/**
 * Parses a bzImage of boot protocol 2.12 and later (Linux, Documentation/arch/x86/boot.rst).
 * Throws `NB_BOOT_IMAGE` for anything else and for a truncated file.
 */
export function parseBzImage(file: string, bytes: Uint8Array): BzImage {
  if (!isBzImage(bytes)) throw bootImageError(file, "a bzImage", describeBytes(bytes));
  if (bytes.length < Hdr.INIT_SIZE + 4) {
    throw bootImageError(
      file,
      "a whole bzImage",
      `a file cut off at ${bytes.length} bytes, inside its header`,
    );
  }
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u32 = (offset: number): number => data.getUint32(offset, true);

  const protocol = data.getUint16(Hdr.VERSION, true);
  if (protocol < OLDEST_PROTOCOL) {
    throw bootImageError(file, "boot protocol 2.12 or later", `${protocol >> 8}.${protocol & 0xff}`);
  }
  const headerEnd = Hdr.HEADER + data.getUint8(Hdr.JUMP + 1);
  const codeStart = ((data.getUint8(Hdr.SETUP_SECTS) || DEFAULT_SETUP_SECTS) + 1) * SECTOR;
  // The last paragraph may be partial; signatures may follow the code.
  const codeLength = u32(Hdr.SYSSIZE) * PARAGRAPH;
  if (codeStart + codeLength - (PARAGRAPH - 1) > bytes.length || headerEnd > bytes.length) {
    throw bootImageError(
      file,
      `a bzImage of ${codeStart + codeLength} bytes`,
      `a file cut off at ${bytes.length} bytes`,
    );
  }
  const code = bytes.subarray(codeStart, codeStart + codeLength);
  const payloadOffset = u32(Hdr.PAYLOAD_OFFSET);
  const payloadLength = u32(Hdr.PAYLOAD_LENGTH);
  if (payloadOffset + payloadLength > code.length) {
    throw bootImageError(
      file,
      `a payload within ${code.length} bytes of code`,
      `one of ${payloadLength} bytes at offset ${payloadOffset}`,
    );
  }
  return {
    protocol,
    setupHeader: bytes.subarray(SETUP_HEADER_OFFSET, headerEnd),
    code,
    payload: code.subarray(payloadOffset, payloadOffset + payloadLength),
    cmdlineSize: u32(Hdr.CMDLINE_SIZE),
    initrdAddrMax: u32(Hdr.INITRD_ADDR_MAX),
    kernelAlignment: u32(Hdr.KERNEL_ALIGNMENT),
    relocatable: data.getUint8(Hdr.RELOCATABLE_KERNEL) !== 0,
    has64BitEntry: (data.getUint16(Hdr.XLOADFLAGS, true) & XLF_KERNEL_64) !== 0,
    prefAddress: Number(data.getBigUint64(Hdr.PREF_ADDRESS, true)),
    initSize: u32(Hdr.INIT_SIZE),
  };
}
