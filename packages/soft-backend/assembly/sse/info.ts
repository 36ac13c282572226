/**
 * Operand forms of the MMX and SSE … SSE4.2 instructions (Intel SDM vol. 2, opcode maps ), for the decoder.
 * Not here: 0F AE, PREFETCHh, MOVBE, CRC32, POPCNT, FISTTP, MONITOR and MWAIT, which belong to other units.
 */

/** Bits 0–7: bytes of the memory operand. */
export const INFO_SIZE: u32 = 0xff;
/** The r/m operand is only written. */
export const INFO_STORE: u32 = 1 << 8;
/** A memory operand off its 16-byte boundary is #GP(0). */
export const INFO_ALIGNED: u32 = 1 << 9;
export const INFO_IMM8: u32 = 1 << 10;
/** The register form of r/m names a general register. */
export const INFO_RM_GPR: u32 = 1 << 11;
/** ModRM.reg names a general register. */
export const INFO_REG_GPR: u32 = 1 << 12;
export const INFO_RM_MMX: u32 = 1 << 13;
export const INFO_REG_MMX: u32 = 1 << 14;
/** The r/m operand is read and written. */
export const INFO_RM_UPDATE: u32 = 1 << 15;
export const INFO_NO_REGISTER: u32 = 1 << 16;
/** No operands (EMMS: there is no ModRM byte either). */
export const INFO_NO_RM: u32 = 1 << 17;
/** MASKMOVQ, MASKMOVDQU: the destination is DS:rDI; `sseExec` takes its host address in `imm`. */
export const INFO_DS_RDI: u32 = 1 << 18;
export const INFO_NO_MEMORY: u32 = 1 << 20;
export const INFO_VALID: u32 = 1 << 31;

const NONE: u32 = 0;
const P66: u32 = 1;
const PF3: u32 = 2;

const PACKED: u32 = INFO_VALID | INFO_ALIGNED | 16;
const UNALIGNED: u32 = INFO_VALID | 16;
const SCALAR_32: u32 = INFO_VALID | 4;
const SCALAR_64: u32 = INFO_VALID | 8;
const MMX: u32 = INFO_VALID | INFO_RM_MMX | INFO_REG_MMX | 8;
const REGISTERS: u32 = INFO_VALID | INFO_NO_MEMORY;

/**
 * Form of one encoding, 0 where it is not an MMX or SSE instruction of this unit.
 * @param map 1: 0F, 2: 0F 38, 3: 0F 3A
 * @param prefix the mandatory prefix. 0: none, 1: 66, 2: F3, 3: F2
 */
export function sseInfo(map: u32, prefix: u32, opcode: u32, modrm: u32, rexw: bool): u32 {
  switch (map) {
    case 1:
      return opcode < 0x60 ? infoFloat(prefix, opcode, modrm, rexw) : infoInteger(prefix, opcode, modrm, rexw);
    case 2:
      return info38(prefix, opcode);
    case 3:
      return info3A(prefix, opcode, rexw);
    default:
      return 0;
  }
}

/** `ps`, `pd`, `ss`, `sd` by prefix. */
// @ts-ignore: decorator
@inline
function fourForms(prefix: u32): u32 {
  return prefix < 2 ? PACKED : prefix == PF3 ? SCALAR_32 : SCALAR_64;
}

/** `ps` and `pd` by prefix, nothing with F3 and F2. */
// @ts-ignore: decorator
@inline
function packedForms(prefix: u32): u32 {
  return prefix < 2 ? PACKED : 0;
}

// @ts-ignore: decorator
@inline
function gprSize(rexw: bool): u32 {
  return rexw ? 8 : 4;
}

function infoFloat(prefix: u32, opcode: u32, modrm: u32, rexw: bool): u32 {
  switch (opcode) {
    case 0x10: // movups, movupd, movss, movsd
      return prefix < 2 ? UNALIGNED : fourForms(prefix);
    case 0x11:
      return (prefix < 2 ? UNALIGNED : fourForms(prefix)) | INFO_STORE;
    case 0x12: // movlps or movhlps, movlpd, movsldup, movddup
    case 0x16: // movhps or movlhps, movhpd, movshdup
      if (prefix == NONE) return SCALAR_64;
      if (prefix == P66) return SCALAR_64 | INFO_NO_REGISTER;
      if (prefix == PF3) return PACKED;
      return opcode == 0x12 ? SCALAR_64 : 0;
    case 0x13:
    case 0x17:
      return prefix < 2 ? SCALAR_64 | INFO_NO_REGISTER | INFO_STORE : 0;
    case 0x14: // unpcklps, unpckhps
    case 0x15:
    case 0x28: // movaps
      return packedForms(prefix);
    case 0x29:
      return prefix < 2 ? PACKED | INFO_STORE : 0;
    case 0x2a: // cvtpi2ps, cvtpi2pd, cvtsi2ss, cvtsi2sd
      if (prefix < 2) return SCALAR_64 | INFO_RM_MMX;
      return INFO_VALID | INFO_RM_GPR | gprSize(rexw);
    case 0x2b: // movntps
      return prefix < 2 ? PACKED | INFO_STORE | INFO_NO_REGISTER : 0;
    case 0x2c: // cvttps2pi, cvttpd2pi, cvttss2si, cvttsd2si
    case 0x2d:
      if (prefix == NONE) return SCALAR_64 | INFO_REG_MMX;
      if (prefix == P66) return PACKED | INFO_REG_MMX;
      return fourForms(prefix) | INFO_REG_GPR;
    case 0x2e: // ucomiss, comiss
    case 0x2f:
      return prefix == NONE ? SCALAR_32 : prefix == P66 ? SCALAR_64 : 0;
    case 0x50: // movmskps
      return prefix < 2 ? REGISTERS | INFO_REG_GPR : 0;
    case 0x52: // rsqrtps
    case 0x53: // rcpps
      return prefix == NONE ? PACKED : prefix == PF3 ? SCALAR_32 : 0;
    case 0x54: // andps, andnps, orps, xorps
    case 0x55:
    case 0x56:
    case 0x57:
      return packedForms(prefix);
    case 0x5a: // cvtps2pd, cvtpd2ps, cvtss2sd, cvtsd2ss
      return prefix == NONE ? SCALAR_64 : fourForms(prefix);
    case 0x5b: // cvtdq2ps, cvtps2dq, cvttps2dq
      return prefix < 3 ? PACKED : 0;
    case 0x51: // sqrt, add, mul, sub, min, div, max
    case 0x58:
    case 0x59:
    case 0x5c:
    case 0x5d:
    case 0x5e:
    case 0x5f:
      return fourForms(prefix);
    default:
      return 0;
  }
}

function infoInteger(prefix: u32, opcode: u32, modrm: u32, rexw: bool): u32 {
  switch (opcode) {
    case 0x60: // punpcklbw, punpcklwd, punpckldq
    case 0x61:
    case 0x62:
      return prefix == NONE ? INFO_VALID | INFO_RM_MMX | INFO_REG_MMX | 4 : packedForms(prefix);
    case 0x6c: // punpcklqdq, punpckhqdq
    case 0x6d:
      return prefix == P66 ? PACKED : 0;
    case 0x6e: // movd, movq
      if (prefix > P66) return 0;
      return INFO_VALID | INFO_RM_GPR | gprSize(rexw) | (prefix == NONE ? INFO_REG_MMX : 0);
    case 0x6f: // movq, movdqa, movdqu
      return prefix == PF3 ? UNALIGNED : mmxForms(prefix);
    case 0x70: // pshufw, pshufd, pshufhw, pshuflw
      return (prefix == NONE ? MMX : PACKED) | INFO_IMM8;
    case 0x71:
    case 0x72:
    case 0x73:
      return infoShift(prefix, opcode, (modrm >> 3) & 7);
    case 0x77: // emms
      return prefix == NONE ? REGISTERS | INFO_NO_RM : 0;
    case 0x7c: // haddpd, hsubpd, addsubpd
    case 0x7d:
    case 0xd0:
      return prefix & 1 ? PACKED : 0;
    case 0x7e: // movd, movq
      if (prefix == PF3) return SCALAR_64;
      if (prefix > P66) return 0;
      return INFO_VALID | INFO_RM_GPR | INFO_STORE | gprSize(rexw) | (prefix == NONE ? INFO_REG_MMX : 0);
    case 0x7f:
      return prefix == 3 ? 0 : (prefix == PF3 ? UNALIGNED : mmxForms(prefix)) | INFO_STORE;
    case 0xc2: // cmpps
      return fourForms(prefix) | INFO_IMM8;
    case 0xc3: // movnti
      if (prefix != NONE) return 0;
      return INFO_VALID | INFO_REG_GPR | INFO_STORE | INFO_NO_REGISTER | gprSize(rexw);
    case 0xc4: // pinsrw
      if (prefix > P66) return 0;
      return INFO_VALID | INFO_RM_GPR | INFO_IMM8 | 2 | (prefix == NONE ? INFO_REG_MMX : 0);
    case 0xc5: // pextrw
      if (prefix > P66) return 0;
      return REGISTERS | INFO_REG_GPR | INFO_IMM8 | (prefix == NONE ? INFO_RM_MMX : 0);
    case 0xc6: // shufps
      return prefix < 2 ? PACKED | INFO_IMM8 : 0;
    case 0xd6: // movq, movq2dq, movdq2q
      if (prefix == P66) return SCALAR_64 | INFO_STORE;
      if (prefix == NONE) return 0;
      return REGISTERS | (prefix == PF3 ? INFO_RM_MMX : INFO_REG_MMX);
    case 0xd7: // pmovmskb
      if (prefix > P66) return 0;
      return REGISTERS | INFO_REG_GPR | (prefix == NONE ? INFO_RM_MMX : 0);
    case 0xe6: // cvttpd2dq, cvtdq2pd, cvtpd2dq
      return prefix == NONE ? 0 : prefix == PF3 ? SCALAR_64 : PACKED;
    case 0xe7: // movntq, movntdq
      if (prefix > P66) return 0;
      return INFO_STORE | INFO_NO_REGISTER | (prefix == NONE ? INFO_VALID | INFO_REG_MMX | 8 : PACKED);
    case 0xf0: // lddqu
      return prefix == 3 ? UNALIGNED | INFO_NO_REGISTER : 0;
    case 0xf7: // maskmovq, maskmovdqu
      if (prefix > P66) return 0;
      return REGISTERS | INFO_DS_RDI | (prefix == NONE ? INFO_RM_MMX | INFO_REG_MMX : 0);
    case 0xff:
      return 0;
  }
  if (opcode < 0x78 || opcode >= 0xd1) return mmxForms(prefix);
  return 0;
}

/** `mm, mm/m64` without a prefix, `xmm, xmm/m128` with 66. */
// @ts-ignore: decorator
@inline
function mmxForms(prefix: u32): u32 {
  return prefix == NONE ? MMX : prefix == P66 ? PACKED : 0;
}

function infoShift(prefix: u32, opcode: u32, operation: u32): u32 {
  if (prefix > P66) return 0;
  let legal = operation == 2 || operation == 6;
  if (opcode != 0x73) legal = legal || operation == 4;
  else if (prefix == P66) legal = legal || operation == 3 || operation == 7;
  if (!legal) return 0;
  return REGISTERS | INFO_IMM8 | INFO_RM_UPDATE | (prefix == NONE ? INFO_RM_MMX : 0);
}

function info38(prefix: u32, opcode: u32): u32 {
  if (opcode < 0x0c || (opcode >= 0x1c && opcode <= 0x1e)) return mmxForms(prefix);
  if (prefix != P66) return 0;
  switch (opcode) {
    case 0x20: // pmovsxbw, …wd, …dq
    case 0x23:
    case 0x25:
    case 0x30:
    case 0x33:
    case 0x35:
      return SCALAR_64;
    case 0x21: // pmovsxbd, …wq
    case 0x24:
    case 0x31:
    case 0x34:
      return SCALAR_32;
    case 0x22: // pmovsxbq
    case 0x32:
      return INFO_VALID | 2;
    case 0x2a: // movntdqa
      return PACKED | INFO_NO_REGISTER;
    case 0x10: // pblendvb, blendvps, blendvpd, ptest
    case 0x14:
    case 0x15:
    case 0x17:
    case 0x28: // pmuldq, pcmpeqq, packusdw
    case 0x29:
    case 0x2b:
      return PACKED;
  }
  return (opcode >= 0x37 && opcode <= 0x41) || (opcode >= 0xdb && opcode <= 0xdf) ? PACKED : 0;
}

function info3A(prefix: u32, opcode: u32, rexw: bool): u32 {
  if (opcode == 0x0f) return mmxForms(prefix) ? mmxForms(prefix) | INFO_IMM8 : 0;
  if (prefix != P66) return 0;
  switch (opcode) {
    case 0x0a: // roundss
    case 0x21: // insertps
      return SCALAR_32 | INFO_IMM8;
    case 0x0b: // roundsd
      return SCALAR_64 | INFO_IMM8;
    case 0x14: // pextrb, pextrw, pextrd or pextrq, extractps
      return INFO_VALID | INFO_RM_GPR | INFO_STORE | INFO_IMM8 | 1;
    case 0x15:
      return INFO_VALID | INFO_RM_GPR | INFO_STORE | INFO_IMM8 | 2;
    case 0x16:
      return INFO_VALID | INFO_RM_GPR | INFO_STORE | INFO_IMM8 | gprSize(rexw);
    case 0x17:
      return INFO_VALID | INFO_RM_GPR | INFO_STORE | INFO_IMM8 | 4;
    case 0x20: // pinsrb
      return INFO_VALID | INFO_RM_GPR | INFO_IMM8 | 1;
    case 0x22: // pinsrd, pinsrq
      return INFO_VALID | INFO_RM_GPR | INFO_IMM8 | gprSize(rexw);
    case 0x60: // pcmpestrm, pcmpestri, pcmpistrm, pcmpistri
    case 0x61:
    case 0x62:
    case 0x63:
      return UNALIGNED | INFO_IMM8;
    case 0x08: // roundps, roundpd
    case 0x09:
    case 0x0c: // blendps, blendpd, pblendw
    case 0x0d:
    case 0x0e:
    case 0x40: // dpps, dppd, mpsadbw
    case 0x41:
    case 0x42:
    case 0x44: // pclmulqdq
    case 0xdf: // aeskeygenassist
      return PACKED | INFO_IMM8;
    default:
      return 0;
  }
}
