/** Moves between registers and memory, 0F 10–17, 28–2B, 50, 6E, 6F, 7E, 7F, C3, D6, D7, E7, F0, F7 (Intel SDM vol. 2). */
import { CODE_REGISTER, CODE_REXW } from "./code";

/** MOVSS, MOVSD, MOVQ loads: from memory they clear the rest, between registers MOVSS and MOVSD merge. */
// @ts-ignore: decorator
@inline
export function moveScalar32(code: u32, reg: usize, rm: usize): void {
  if (code & CODE_REGISTER) store<u32>(reg, load<u32>(rm));
  else v128.store(reg, v128.load32_zero(rm));
}

// @ts-ignore: decorator
@inline
export function moveScalar64(code: u32, reg: usize, rm: usize): void {
  if (code & CODE_REGISTER) store<u64>(reg, load<u64>(rm));
  else v128.store(reg, v128.load64_zero(rm));
}

/** MOVQ xmm to xmm/m64: a register keeps nothing of its upper half. */
// @ts-ignore: decorator
@inline
export function storeQuad(code: u32, reg: usize, rm: usize): void {
  const value = load<u64>(reg);
  store<u64>(rm, value);
  if (code & CODE_REGISTER) store<u64>(rm, 0, 8);
}

/** Stores a 32- or 64-bit value; in a general register 32 bits clear the upper half. */
// @ts-ignore: decorator
@inline
export function storeGeneral(code: u32, rm: usize, value: u64): void {
  if (code & CODE_REXW) store<u64>(rm, value);
  else if (code & CODE_REGISTER) store<u64>(rm, value & 0xffffffff);
  else store<u32>(rm, <u32>value);
}

/** MOVD and MOVQ from r/m. */
// @ts-ignore: decorator
@inline
export function loadGeneral(code: u32, rm: usize): u64 {
  return code & CODE_REXW ? load<u64>(rm) : <u64>load<u32>(rm);
}

/** MASKMOVDQU: writes the bytes whose mask has its top bit set. */
export function maskedStore(reg: usize, mask: usize, to: usize): void {
  const select = i8x16.shr_s(v128.load(mask), 7);
  v128.store(to, v128.bitselect(v128.load(reg), v128.load(to), select));
}

/** MASKMOVQ. */
export function maskedStoreMmx(reg: usize, mask: usize, to: usize): void {
  const select = i8x16.shr_s(v128.load64_zero(mask), 7);
  const merged = v128.bitselect(v128.load64_zero(reg), v128.load64_zero(to), select);
  store<u64>(to, <u64>i64x2.extract_lane(merged, 0));
}
