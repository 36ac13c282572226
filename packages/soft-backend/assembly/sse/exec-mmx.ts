/** MMX instructions of the 0F map, prefix none, 60–FF. */
import { CODE_REGISTER } from "./code";
import { enterMmx, leaveMmx, storeMmx } from "./mmx-state";
import { loadGeneral, maskedStoreMmx, storeGeneral } from "./moves";
import { packedIntegerMmx, shiftImmediate } from "./packed-integer";
import { selectWordsMmx } from "./shuffles";

export function execMmx(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  const op = code & 0xff;
  if (op == 0x77) {
    leaveMmx();
    return 0;
  }
  enterMmx();
  switch (op) {
    case 0x60:
    case 0x61:
    case 0x62: storeMmx(reg, low(packedIntegerMmx(op, v128.load64_zero(reg), v128.load32_zero(rm)))); return 0;
    case 0x6e: storeMmx(reg, loadGeneral(code, rm)); return 0;
    case 0x6f: storeMmx(reg, load<u64>(rm)); return 0;
    case 0x70: storeMmx(reg, selectWordsMmx(load<u64>(rm), imm)); return 0;
    case 0x71:
    case 0x72:
    case 0x73: storeMmx(rm, low(shiftImmediate(op, (code >> 16) & 7, v128.load64_zero(rm), imm))); return 0;
    case 0x7e: storeGeneral(code, rm, load<u64>(reg)); return 0;
    case 0x7f: storeMmxOperand(code, rm, load<u64>(reg)); return 0;
    case 0xc4: insertWord(reg, load<u16>(rm), imm & 3); return 0;
    case 0xc5: store<u64>(reg, load<u16>(rm + ((imm & 3) << 1))); return 0;
    case 0xd7: store<u64>(reg, i8x16.bitmask(v128.load64_zero(rm))); return 0;
    case 0xe7: store<u64>(rm, load<u64>(reg)); return 0;
    case 0xf7: maskedStoreMmx(reg, rm, imm); return 0;
  }
  storeMmx(reg, low(packedIntegerMmx(op, v128.load64_zero(reg), v128.load64_zero(rm))));
  return 0;
}

// @ts-ignore: decorator
@inline
function low(value: v128): u64 {
  return <u64>i64x2.extract_lane(value, 0);
}

/** MOVQ to mm/m64. */
function storeMmxOperand(code: u32, rm: usize, value: u64): void {
  if (code & CODE_REGISTER) storeMmx(rm, value);
  else store<u64>(rm, value);
}

/** PINSRW. */
function insertWord(register: usize, value: u16, lane: u32): void {
  store<u16>(register + (lane << 1), value);
  store<u16>(register, 0xffff, 8);
}
