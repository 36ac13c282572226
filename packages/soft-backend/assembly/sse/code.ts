/** Fields of the instruction code that `sseExec` takes. */

export const CODE_REXW: u32 = 1 << 14;
export const CODE_REGISTER: u32 = 1 << 15;

/** Opcode, map and mandatory prefix in one number: `0x1010` is 66 0F 10 without its map bits. */
// @ts-ignore: decorator
@inline
export function key(code: u32): u32 {
  return (code & 0xff) | ((code >> 4) & 0x300);
}

/** Keys by prefix: add the opcode. */
export const NP: u32 = 0;
export const P66: u32 = 0x100;
export const PF3: u32 = 0x200;
export const PF2: u32 = 0x300;
