/**
 * The x87 floating-point unit: decoding of D8…DF, dispatch and the interface to the core (SDM 1 chapter 8, SDM 2).
 * Checks of CR0.EM and CR0.TS, and of the memory operand, are the caller's. Not modelled: the code and data selectors
 * of the last instruction (stored as 0), the real-address forms of the environment image.
 */
import { FDP, FIP, FOP, GPR } from "../src/cpu/layout";
import { sfUseControlWord } from "./softfloat/environment";
import {
  arithmeticMemory,
  arithmeticRegister,
  changeSign,
  compareMemory,
  compareRegister,
  compareToFlags,
  conditionalMove,
  examine,
  exchange,
  extract,
  remainder,
  roundToInteger,
  scale,
  squareRoot,
  test,
} from "./x87/arithmetic";
import {
  clearExceptions,
  initialise,
  loadControl,
  loadEnvironment,
  reset,
  restore,
  save,
  storeEnvironment,
} from "./x87/environment";
import { control, pending, rotate, setC1, status } from "./x87/stack";
import { transcendental } from "./x87/transcendental";
import {
  freeRegister,
  loadConstant,
  loadDecimal,
  loadF32,
  loadF64,
  loadF80,
  loadInteger,
  loadRegister,
  storeDecimal,
  storeF32,
  storeF64,
  storeF80,
  storeInteger,
  storeRegister,
  storeRegisterQuietly,
  widenOperand,
} from "./x87/transfer";

export { fxrstor, fxsave } from "./x87/environment";

/** Set in `x87Info` of a valid instruction. Bits 0–7: size of the memory operand. */
export const X87_VALID: u32 = 0x10000;
/** The memory operand is written. */
export const X87_WRITES: u32 = 0x100;
/** Does not wait for pending exceptions. */
export const X87_NO_WAIT: u32 = 0x200;

/** The last instruction wrote its memory operand. A store that raises an unmasked exception does not. */
export let x87Stored: bool = false;

const MF: i32 = 16;
const UD: i32 = 6;

/** What the instruction is: 0 if there is none (#UD), else X87_VALID | X87_WRITES | X87_NO_WAIT | operand size. */
export function x87Info(opcode: u32, modrm: u32, opsize16: bool): u32 {
  const form = opcode & 7;
  const reg = (modrm >> 3) & 7;
  if (modrm >= 0xc0) return registerInfo(form, reg, modrm);
  if ((form & 1) == 0) return X87_VALID | (form == 4 ? 8 : form == 6 ? 2 : 4);
  const environment: u32 = opsize16 ? 14 : 28;
  if (form == 1) {
    if (reg == 0) return X87_VALID | 4;
    if (reg == 1) return 0;
    if (reg <= 3) return X87_VALID | X87_WRITES | 4;
    if (reg == 4) return X87_VALID | environment;
    if (reg == 5) return X87_VALID | 2;
    return X87_VALID | X87_WRITES | X87_NO_WAIT | (reg == 6 ? environment : 2);
  }
  if (form == 3) {
    if (reg == 4 || reg == 6) return 0;
    if (reg == 5) return X87_VALID | 10;
    if (reg == 7) return X87_VALID | X87_WRITES | 10;
    return X87_VALID | 4 | (reg != 0 ? X87_WRITES : 0);
  }
  if (form == 5) {
    if (reg == 5) return 0;
    if (reg == 4) return X87_VALID | (environment + 80);
    if (reg == 6) return X87_VALID | X87_WRITES | X87_NO_WAIT | (environment + 80);
    if (reg == 7) return X87_VALID | X87_WRITES | X87_NO_WAIT | 2;
    return X87_VALID | 8 | (reg != 0 ? X87_WRITES : 0);
  }
  if (reg == 4) return X87_VALID | 10;
  if (reg == 5) return X87_VALID | 8;
  if (reg == 6) return X87_VALID | X87_WRITES | 10;
  if (reg == 7) return X87_VALID | X87_WRITES | 8;
  return X87_VALID | 2 | (reg != 0 ? X87_WRITES : 0);
}

/** Register forms, the undocumented aliases that every processor has included. */
function registerInfo(form: u32, reg: u32, modrm: u32): u32 {
  let valid = true;
  if (form == 1) {
    if (reg == 2) valid = modrm == 0xd0;
    else if (reg == 4) valid = modrm <= 0xe1 || modrm == 0xe4 || modrm == 0xe5;
    else if (reg == 5) valid = modrm != 0xef;
  } else if (form == 2) valid = reg < 4 || modrm == 0xe9;
  else if (form == 3) {
    if (reg == 4) return modrm <= 0xe4 ? X87_VALID | X87_NO_WAIT : 0;
    valid = reg != 7;
  } else if (form == 5) valid = reg < 6;
  else if (form == 6) valid = reg != 3 || modrm == 0xd9;
  else if (form == 7) {
    if (modrm == 0xe0) return X87_VALID | X87_NO_WAIT;
    valid = reg != 7 && reg != 4;
  }
  return valid ? X87_VALID : 0;
}

/**
 * Executes one instruction. `ptr` is the memory operand (host address), `ea` its guest address, both 0 for register
 * forms. Returns 0 or the vector of the exception.
 */
export function x87Exec(opcode: u32, modrm: u32, ptr: usize, rip: u64, ea: u64, opsize16: bool): i32 {
  const info = x87Info(opcode, modrm, opsize16);
  if (info == 0) return UD;
  if ((info & X87_NO_WAIT) == 0 && pending()) return MF;
  const form = opcode & 7;
  const reg = (modrm >> 3) & 7;
  if (modrm >= 0xc0) {
    if (form == 3 && reg == 4) {
      if (modrm == 0xe2) clearExceptions();
      else if (modrm == 0xe3) initialise();
      return 0;
    }
    if (modrm == 0xe0 && form == 7) {
      store<u16>(GPR, <u16>status());
      return 0;
    }
  } else if (executeControl(form, reg, ptr, opsize16)) {
    x87Stored = (info & X87_WRITES) != 0;
    return 0;
  }
  store<u64>(FIP, rip);
  store<u16>(FOP, <u16>((form << 8) | modrm));
  sfUseControlWord(control());
  if (modrm < 0xc0) {
    store<u64>(FDP, ea);
    x87Stored = executeMemory(opcode, form, reg, ptr);
  } else executeRegister(form, reg, modrm);
  return 0;
}

/** Control instructions with a memory operand; false if it is another one. */
function executeControl(form: u32, reg: u32, ptr: usize, opsize16: bool): bool {
  if (form == 1 && reg >= 4) {
    if (reg == 4) loadEnvironment(ptr, opsize16);
    else if (reg == 5) loadControl(load<u16>(ptr));
    else if (reg == 6) storeEnvironment(ptr, opsize16);
    else store<u16>(ptr, <u16>control());
    return true;
  }
  if (form == 5 && reg >= 4) {
    if (reg == 4) restore(ptr, opsize16);
    else if (reg == 6) save(ptr, opsize16);
    else store<u16>(ptr, <u16>status());
    return true;
  }
  return false;
}

/** True if the memory operand was written. */
function executeMemory(opcode: u32, form: u32, reg: u32, ptr: usize): bool {
  if ((form & 1) == 0) {
    widenOperand(opcode, ptr);
    if (reg == 2 || reg == 3) compareMemory(reg == 3);
    else arithmeticMemory(reg);
    return false;
  }
  const popping = reg == 3;
  if (form == 1) {
    if (reg != 0) return storeF32(ptr, popping);
    loadF32(ptr);
  } else if (form == 3) {
    if (reg == 7) return storeF80(ptr);
    if (reg != 0 && reg != 5) return storeInteger(ptr, 32, reg != 2, reg == 1);
    if (reg == 5) loadF80(ptr);
    else loadInteger(load<i32>(ptr));
  } else if (form == 5) {
    if (reg == 1) return storeInteger(ptr, 64, true, true);
    if (reg != 0) return storeF64(ptr, popping);
    loadF64(ptr);
  } else if (reg == 0) loadInteger(load<i16>(ptr));
  else if (reg <= 3) return storeInteger(ptr, 16, reg != 2, reg == 1);
  else if (reg == 4) loadDecimal(ptr);
  else if (reg == 5) loadInteger(load<i64>(ptr));
  else if (reg == 6) return storeDecimal(ptr);
  else return storeInteger(ptr, 64, true, false);
  return false;
}

function executeRegister(form: u32, reg: u32, modrm: u32): void {
  const i = modrm & 7;
  switch (form) {
    case 0:
      if (reg == 2 || reg == 3) compareRegister(i, true, reg - 2);
      else arithmeticRegister(reg, i, 0, false);
      break;
    case 1:
      executeD9(reg, i, modrm);
      break;
    case 2:
      if (reg < 4) conditionalMove(reg, false, i);
      else compareRegister(1, false, 2);
      break;
    case 3:
      if (reg < 4) conditionalMove(reg, true, i);
      else compareToFlags(i, reg == 6, false);
      break;
    case 4:
      if (reg == 2 || reg == 3) compareRegister(i, true, reg - 2);
      else arithmeticRegister(reg, i, i, false);
      break;
    case 5:
      if (reg == 0) freeRegister(i, false);
      else if (reg == 1) exchange(i);
      else if (reg < 4) storeRegister(i, reg == 3);
      else compareRegister(i, false, reg - 4);
      break;
    case 6:
      if (reg == 2) compareRegister(i, true, 1);
      else if (reg == 3) compareRegister(1, true, 2);
      else arithmeticRegister(reg, i, i, true);
      break;
    default:
      if (reg == 0) freeRegister(i, true);
      else if (reg == 1) exchange(i);
      else if (reg < 4) storeRegister(i, true);
      else compareToFlags(i, reg == 6, true);
  }
}

function executeD9(reg: u32, i: u32, modrm: u32): void {
  if (reg == 0) loadRegister(i);
  else if (reg == 1) exchange(i);
  else if (reg == 2) return;
  else if (reg == 3) storeRegisterQuietly(i);
  else if (reg == 5) loadConstant(i);
  else {
    switch (modrm) {
      case 0xe0:
        changeSign(false);
        break;
      case 0xe1:
        changeSign(true);
        break;
      case 0xe4:
        test();
        break;
      case 0xe5:
        examine();
        break;
      case 0xf4:
        extract();
        break;
      case 0xf5:
        remainder(true);
        break;
      case 0xf6:
        setC1(false);
        rotate(7);
        break;
      case 0xf7:
        setC1(false);
        rotate(1);
        break;
      case 0xf8:
        remainder(false);
        break;
      case 0xfa:
        squareRoot();
        break;
      case 0xfc:
        roundToInteger();
        break;
      case 0xfd:
        scale();
        break;
      default:
        transcendental(modrm);
    }
  }
}

/** WAIT: 16 if an unmasked exception is pending, else 0. The caller checks CR0.MP and CR0.TS. */
export function x87Wait(): i32 {
  return pending() ? MF : 0;
}

/** Whether an unmasked exception waits to be taken. */
export function x87Pending(): bool {
  return pending();
}

/** The initial configuration of XRSTOR (SDM 1 §13.6): as after FNINIT, registers cleared. */
export function x87Initialise(): void {
  reset();
  initialise();
}

/** Power-on state. */
export function x87Reset(): void {
  reset();
}
