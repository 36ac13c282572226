/** Where the headers end and the code begins. */
export const CODE_OFFSET = 0x78;
/** Where Linux loads the file. */
export const LOAD_ADDRESS = 0x40_0000;

const ELF_HEADER = 0x40;
const PROGRAM_HEADER = 0x38;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const RWX = 7;
const PAGE = 0x1000;

/**
 * A static 64-bit ELF executable of one segment (System V ABI, AMD64 supplement §4, §5).
 * @param code assembled for `LOAD_ADDRESS + CODE_OFFSET`, entered at its first byte
 * @param memoryBytes of the segment; what the file does not fill is zero
 */
export function elfProgram(code: Uint8Array, memoryBytes: number): Uint8Array {
  const file = new Uint8Array(CODE_OFFSET + code.length);
  const data = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // class 64, little-endian, version 1
  data.setUint16(0x10, ET_EXEC, true);
  data.setUint16(0x12, EM_X86_64, true);
  data.setUint32(0x14, 1, true);
  data.setUint32(0x18, LOAD_ADDRESS + CODE_OFFSET, true);
  data.setUint32(0x20, ELF_HEADER, true);
  data.setUint16(0x34, ELF_HEADER, true);
  data.setUint16(0x36, PROGRAM_HEADER, true);
  data.setUint16(0x38, 1, true);
  data.setUint32(ELF_HEADER, PT_LOAD, true);
  data.setUint32(ELF_HEADER + 4, RWX, true);
  data.setUint32(ELF_HEADER + 0x10, LOAD_ADDRESS, true);
  data.setUint32(ELF_HEADER + 0x18, LOAD_ADDRESS, true);
  data.setUint32(ELF_HEADER + 0x20, file.length, true);
  data.setUint32(ELF_HEADER + 0x28, memoryBytes, true);
  data.setUint32(ELF_HEADER + 0x30, PAGE, true);
  file.set(code, CODE_OFFSET);
  return file;
}
