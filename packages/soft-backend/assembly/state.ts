// The running vCPU's registers, as inlined accessors over the state block.
import { CPL, CR0, CR4, EFER, GPR, MODE, RFLAGS, RIP_BASE, SEG, SEG_BASE, SEG_SIZE } from "../src/cpu/layout";

/** u64: generation and privilege of the translations in use; the low 12 bits of every live TLB tag. */
export const TLB_TAG: usize = 0x6b8;
/** u32: generation, mode and privilege of the jump cache entries in use. */
export const JUMP_TAG: usize = 0x718;
/** Linear base of CS: zero in 64-bit mode, u64. */
export const CS_BASE: usize = 0x710;

export const ES: u32 = 0;
export const CS: u32 = 1;
export const SS: u32 = 2;
export const DS: u32 = 3;
export const FS: u32 = 4;
export const GS: u32 = 5;
export const LDTR: u32 = 6;
export const TR: u32 = 7;

export const RAX: usize = GPR;
export const RCX: usize = GPR + 8;
export const RDX: usize = GPR + 16;
export const RBX: usize = GPR + 24;
export const RSP: usize = GPR + 32;
export const RBP: usize = GPR + 40;
export const RSI: usize = GPR + 48;
export const RDI: usize = GPR + 56;

export const CF: u32 = 1;
export const PF: u32 = 4;
export const AF: u32 = 0x10;
export const ZF: u32 = 0x40;
export const SF: u32 = 0x80;
export const TF: u32 = 0x100;
export const IF: u32 = 0x200;
export const DF: u32 = 0x400;
export const OF: u32 = 0x800;
export const IOPL: u32 = 0x3000;
export const NT: u32 = 0x4000;
export const RF: u32 = 0x10000;
export const VM: u32 = 0x20000;
export const AC: u32 = 0x40000;
export const ID: u32 = 0x200000;
export const STATUS_FLAGS: u32 = CF | PF | AF | ZF | SF | OF;

export const CR0_PE: u64 = 1;
export const CR0_MP: u64 = 2;
export const CR0_EM: u64 = 4;
export const CR0_TS: u64 = 8;
export const CR0_NE: u64 = 0x20;
export const CR0_WP: u64 = 0x10000;
export const CR0_AM: u64 = 0x40000;
export const CR0_PG: u64 = 0x80000000;
export const CR4_TSD: u64 = 4;
export const CR4_DE: u64 = 8;
export const CR4_PSE: u64 = 0x10;
export const CR4_PAE: u64 = 0x20;
export const CR4_PGE: u64 = 0x80;
export const CR4_OSFXSR: u64 = 0x200;
export const CR4_OSXMMEXCPT: u64 = 0x400;
export const CR4_UMIP: u64 = 0x800;
export const CR4_OSXSAVE: u64 = 0x40000;
export const EFER_SCE: u64 = 1;
export const EFER_LME: u64 = 0x100;
export const EFER_LMA: u64 = 0x400;
export const EFER_NX: u64 = 0x800;

export const MODE_REAL: u32 = 0;
export const MODE_16: u32 = 1;
export const MODE_32: u32 = 2;
export const MODE_64: u32 = 3;

// @ts-ignore: decorator
@inline export function cpl(): u32 { return load<u32>(CPL); }
// @ts-ignore: decorator
@inline export function mode(): u32 { return load<u32>(MODE); }
// @ts-ignore: decorator
@inline export function cr0(): u64 { return load<u64>(CR0); }
// @ts-ignore: decorator
@inline export function cr4(): u64 { return load<u64>(CR4); }
// @ts-ignore: decorator
@inline export function efer(): u64 { return load<u64>(EFER); }
// @ts-ignore: decorator
@inline export function systemFlags(): u32 { return load<u32>(RFLAGS); }
// @ts-ignore: decorator
@inline export function segPtr(seg: u32): usize { return SEG + seg * SEG_SIZE; }
// @ts-ignore: decorator
@inline export function segBase(seg: u32): u64 { return load<u64>(SEG + seg * SEG_SIZE, SEG_BASE); }

// Fields of a decoded record (32 bytes):
//   op u16 @0, start u16 @2 (page offset of the instruction), end u16 @4 (of the next one),
//   rem u8 @6 (instructions from this one to the block's end), scale u8 @7,
//   dst u32 @8, src u32 @12 (pointers; chain slots of branches), base u16 @16, index u16 @18, disp i32 @20, imm i64 @24
export const RECORD: usize = 32;
// @ts-ignore: decorator
@inline export function opOf(d: usize): u32 { return load<u16>(d); }
// @ts-ignore: decorator
@inline export function startOf(d: usize): u64 { return load<u64>(RIP_BASE) + <u64>load<u16>(d, 2); }
// @ts-ignore: decorator
@inline export function endOf(d: usize): u64 { return load<u64>(RIP_BASE) + <u64>load<u16>(d, 4); }
// @ts-ignore: decorator
@inline export function remOf(d: usize): i32 { return <i32>load<u8>(d, 6); }
// @ts-ignore: decorator
@inline export function dstOf(d: usize): usize { return load<u32>(d, 8); }
// @ts-ignore: decorator
@inline export function srcOf(d: usize): usize { return load<u32>(d, 12); }
// @ts-ignore: decorator
@inline export function immOf(d: usize): i64 { return load<i64>(d, 24); }
/** Effective address: base + (index << scale) + disp, each through a pointer. */
// @ts-ignore: decorator
@inline export function ea(d: usize): u64 {
  return load<u64>(<usize>load<u16>(d, 16)) + (load<u64>(<usize>load<u16>(d, 18)) << <u64>load<u8>(d, 7)) + <u64><i64>load<i32>(d, 20);
}
