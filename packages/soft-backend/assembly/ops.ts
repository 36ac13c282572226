// Operations of decoded records.
//
// Hot operations (below SLOW) are cases of the run loop in interpreter.ts, dense from 0. The others are
// `SLOW + id * 4 + size` and live in slow.ts. Sizes: 0 = 8 bits, 1 = 16, 2 = 32, 3 = 64.

/** Register ← register or immediate: + alu * 4 + size; alu: add or adc sbb and sub xor cmp test. */
export const OP_ALU_RR: u32 = 0;
/** Register ← memory. */
export const OP_ALU_RM: u32 = 36;
/** Memory ← register or immediate. */
export const OP_ALU_MR: u32 = 72;
export const ALU_CMP: u32 = 7;
export const ALU_TEST: u32 = 8;

export const OP_MOV_RR: u32 = 108; // + size
export const OP_MOV_RM: u32 = 112;
export const OP_MOV_MR: u32 = 116;
export const OP_MOVZX8_RR: u32 = 120; // to 32 or 64 bits
export const OP_MOVZX16_RR: u32 = 121;
export const OP_MOVZX8_RM: u32 = 122;
export const OP_MOVZX16_RM: u32 = 123;
/** From 8 to 32, 8 to 64, 16 to 32, 16 to 64, 32 to 64. */
export const OP_MOVSX_RR: u32 = 124;
export const OP_MOVSX_RM: u32 = 129;
export const OP_LEA64: u32 = 134;
export const OP_LEA32: u32 = 135;
export const OP_PUSH64: u32 = 136;
export const OP_POP64: u32 = 137;
export const OP_CALL: u32 = 138;
export const OP_RET: u32 = 139;
export const OP_JMP: u32 = 140;
export const OP_JMP_R: u32 = 141;
export const OP_JMP_M: u32 = 142;
export const OP_CALL_R: u32 = 143;
export const OP_CALL_M: u32 = 144;
export const OP_PUSH64_M: u32 = 145;
export const OP_JCC: u32 = 146; // + cc
export const OP_SETCC: u32 = 162; // cc in imm
export const OP_CMOV32: u32 = 163;
export const OP_CMOV64: u32 = 164;
export const OP_CMOV32_M: u32 = 165;
export const OP_CMOV64_M: u32 = 166;
export const OP_INC_R: u32 = 167; // + size
export const OP_DEC_R: u32 = 171;
export const OP_INC_M: u32 = 175;
export const OP_DEC_M: u32 = 179;
/** By a constant that is not zero after masking: + 0 for 32 bits, + 1 for 64. */
export const OP_SHL_I: u32 = 183;
export const OP_SHR_I: u32 = 185;
export const OP_SAR_I: u32 = 187;
export const OP_NOT_R: u32 = 189;
export const OP_NEG_R: u32 = 191;
export const OP_IMUL_RR: u32 = 193;
/** dst ← src * imm. */
export const OP_IMUL_RRI: u32 = 195;
export const OP_NOP: u32 = 197;
/** The block ends without a branch. */
export const OP_NEXT: u32 = 198;
/** What was decoded here is no longer valid. */
export const OP_DEAD: u32 = 199;
/** Leaves `run`. */
export const OP_STOP: u32 = 200;
/** Address prefixes: EA ← base + index + disp + segment, 64 / 32 / 16-bit, or imm + segment. */
export const OP_EA64: u32 = 201;
export const OP_EA32: u32 = 202;
export const OP_EA16: u32 = 203;
export const OP_EA_IMM: u32 = 204;
export const OP_LEAVE64: u32 = 205;
export const OP_BT_RR: u32 = 206; // 32, 64
/** 16-byte moves between XMM registers and memory. */
export const OP_MOVDQU_RM: u32 = 208;
export const OP_MOVDQU_MR: u32 = 209;
export const OP_MOVDQA_RM: u32 = 210;
export const OP_MOVDQA_MR: u32 = 211;
export const OP_MOVDQA_RR: u32 = 212;
/** The block was cut here; go on at this instruction. */
export const OP_SPLIT: u32 = 213;
/** Compare or test two registers (or a register and an immediate) and branch on the next record: + kind * 16 + cc. */
export const OP_FUSED_CMP64: u32 = 214;
export const OP_FUSED_CMP32: u32 = 230;
export const OP_FUSED_TEST64: u32 = 246;
export const OP_FUSED_TEST32: u32 = 262;
export const OP_FUSED_END: u32 = 278;
/** Address prefixes outside 64-bit mode, which check the access (dst: `accessOf`) against the segment (src). */
export const OP_EA32_SEG: u32 = 278;
export const OP_EA16_SEG: u32 = 279;
export const OP_EA_IMM_SEG: u32 = 280;

/** By a constant that is not zero after masking: + 0 for 32 bits, + 1 for 64. */
export const OP_ROL_I: u32 = 281;
export const OP_ROR_I: u32 = 283;
/** By CL: + 0 for 32 bits, + 1 for 64. */
export const OP_SHL_CL: u32 = 285;
export const OP_SHR_CL: u32 = 287;
export const OP_SAR_CL: u32 = 289;
export const OP_CDQE: u32 = 291;
export const OP_CWDE: u32 = 292;
export const OP_CDQ: u32 = 293;
export const OP_CQO: u32 = 294;
export const OP_BSWAP: u32 = 295; // 32, 64
/**
 * The same without flags, where the block sets them again before anybody could see them (deadFlags in decode.ts):
 * add or and sub xor, shl shr sar, rol ror; each 32, 64.
 */
export const OP_QUIET: u32 = 297;
export const OP_QUIET_SHIFT: u32 = 307;
export const OP_QUIET_ROTATE: u32 = 313;
export const OP_QUIET_END: u32 = 317;

export const SLOW: u32 = 1024;
export const S_MUL: u32 = 0;
export const S_IMUL1: u32 = 1;
export const S_DIV: u32 = 2;
export const S_IDIV: u32 = 3;
export const S_NOT: u32 = 4;
export const S_NEG: u32 = 5;
/** + modrm.reg: rol ror rcl rcr shl shr sal sar. */
export const S_SHIFT: u32 = 6;
export const S_XCHG: u32 = 14;
export const S_XADD: u32 = 15;
export const S_CMPXCHG: u32 = 16;
/** bt bts btr btc: dst is the offset register, or 0 and imm the offset. */
export const S_BT: u32 = 17;
export const S_BSF: u32 = 21;
export const S_BSR: u32 = 22;
export const S_POPCNT: u32 = 23;
export const S_SHLD: u32 = 24;
export const S_SHRD: u32 = 25;
export const S_IMUL2: u32 = 26;
export const S_IMUL3: u32 = 27;
export const S_CMOV: u32 = 28;
/** size: of the source; imm: size of the destination. */
export const S_MOVZX: u32 = 29;
export const S_MOVSX: u32 = 30;
export const S_SETCC: u32 = 31;
export const S_BSWAP: u32 = 32;
export const S_LEA: u32 = 33;
/** imm: bits 0–1 REP (1 REPE or REP, 2 REPNE), bits 2–3 address size (1, 2, 3); src: segment base. */
export const S_MOVS: u32 = 34;
export const S_CMPS: u32 = 35;
export const S_STOS: u32 = 36;
export const S_LODS: u32 = 37;
export const S_SCAS: u32 = 38;
export const S_INS: u32 = 39;
export const S_OUTS: u32 = 40;
/** imm: port, or −1 for DX. */
export const S_IN: u32 = 41;
export const S_OUT: u32 = 42;
export const S_PUSH: u32 = 43;
export const S_POP: u32 = 44;
export const S_PUSHF: u32 = 45;
export const S_POPF: u32 = 46;
export const S_ENTER: u32 = 47;
export const S_LEAVE: u32 = 48;
export const S_CBW: u32 = 49;
export const S_CWD: u32 = 50;
export const S_CALL: u32 = 51;
export const S_RET: u32 = 52;
export const S_JMP: u32 = 53;
export const S_JCC: u32 = 54;
export const S_LOOP: u32 = 55;
export const S_CALL_RM: u32 = 56;
export const S_JMP_RM: u32 = 57;
export const S_CALL_FAR: u32 = 58;
export const S_JMP_FAR: u32 = 59;
export const S_RET_FAR: u32 = 60;
export const S_IRET: u32 = 61;
export const S_INT: u32 = 62;
export const S_PUSHA: u32 = 63;
export const S_POPA: u32 = 64;
export const S_PUSH_SEG: u32 = 65;
export const S_POP_SEG: u32 = 66;
export const S_MOV_TO_SEG: u32 = 67;
export const S_MOV_FROM_SEG: u32 = 68;
export const S_LOAD_FAR: u32 = 69;
export const S_FLAG: u32 = 70; // imm: opcode (clc stc cmc cld std cli sti)
export const S_LAHF: u32 = 71;
export const S_SAHF: u32 = 72;
export const S_XLAT: u32 = 73;
export const S_HLT: u32 = 74;
export const S_CPUID: u32 = 75;
export const S_RDTSC: u32 = 76; // imm 1: RDTSCP
export const S_RDMSR: u32 = 77;
export const S_WRMSR: u32 = 78;
export const S_SYSCALL: u32 = 79;
export const S_SYSRET: u32 = 80;
export const S_SYSENTER: u32 = 81;
export const S_SYSEXIT: u32 = 82;
export const S_MOV_FROM_CR: u32 = 83;
export const S_MOV_TO_CR: u32 = 84;
export const S_MOV_FROM_DR: u32 = 85;
export const S_MOV_TO_DR: u32 = 86;
export const S_CLTS: u32 = 87;
export const S_INVD: u32 = 88;
export const S_SGDT: u32 = 89;
export const S_SIDT: u32 = 90;
export const S_LGDT: u32 = 91;
export const S_LIDT: u32 = 92;
export const S_SMSW: u32 = 93;
export const S_LMSW: u32 = 94;
export const S_INVLPG: u32 = 95;
export const S_SWAPGS: u32 = 96;
export const S_SLDT: u32 = 97;
export const S_STR: u32 = 98;
export const S_LLDT: u32 = 99;
export const S_LTR: u32 = 100;
export const S_VERR: u32 = 101;
export const S_VERW: u32 = 102;
export const S_LAR: u32 = 103;
export const S_LSL: u32 = 104;
export const S_PAUSE: u32 = 105;
export const S_X87: u32 = 106; // imm: opcode | modrm << 8
export const S_FWAIT: u32 = 107;
export const S_SSE: u32 = 108;
export const S_FXSAVE: u32 = 109;
export const S_FXRSTOR: u32 = 110;
export const S_LDMXCSR: u32 = 111;
export const S_STMXCSR: u32 = 112;
export const S_CMPXCHG8B: u32 = 113;
export const S_CRC32: u32 = 114;
export const S_UD: u32 = 115;
/** Raises exception imm. */
export const S_RAISE: u32 = 116;
export const S_CLFLUSH: u32 = 117;
export const S_BCD: u32 = 118; // imm: opcode (daa das aaa aas aam aad), imm8 << 8
export const S_BOUND: u32 = 119;
export const S_ARPL: u32 = 120;
export const S_MOVBE: u32 = 121;
export const S_XSAVE: u32 = 122; // imm: modrm.reg
export const S_XGETBV: u32 = 123;
export const S_XSETBV: u32 = 124;
export const S_SALC: u32 = 125;
export const S_INTO: u32 = 126;
export const S_MASKMOV: u32 = 127;
export const S_RDPMC: u32 = 128;
