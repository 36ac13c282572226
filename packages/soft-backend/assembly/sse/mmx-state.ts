/** What an MMX instruction does to the x87 state (Intel SDM 1 §9.5). */
import { FSW, FTAG } from "../../src/cpu/layout";

/** TOP becomes 0 and all registers are marked in use. */
// @ts-ignore: decorator
@inline
export function enterMmx(): void {
  store<u16>(FSW, load<u16>(FSW) & 0xc7ff);
  store<u8>(FTAG, 0xff);
}

/** Writes an MMX register: the exponent field becomes all ones. */
// @ts-ignore: decorator
@inline
export function storeMmx(register: usize, value: u64): void {
  store<u64>(register, value);
  store<u16>(register, 0xffff, 8);
}

/** EMMS: all registers are marked empty. */
// @ts-ignore: decorator
@inline
export function leaveMmx(): void {
  store<u16>(FSW, load<u16>(FSW) & 0xc7ff);
  store<u8>(FTAG, 0);
}
