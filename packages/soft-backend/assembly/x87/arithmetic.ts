/** Two-operand arithmetic, comparisons and one-operand instructions that round once. */
import { ADD, DIV, MUL, SUB, UNORDERED } from "../softfloat/binary";
import { sfSetRoundedUp } from "../softfloat/environment";
import {
  f80Binary,
  f80Compare,
  f80IsInfinite,
  f80IsNaN,
  f80IsUnsupported,
  f80RoundToInt,
  f80Set,
  f80Sqrt,
  xDenormal,
  xSe,
  xSig,
} from "../softfloat/f80";
import {
  f80Extract,
  f80Remainder,
  f80Scale,
  extractedSe,
  extractedSig,
  partial,
  quotient,
  settled,
} from "../softfloat/f80-partial";
import { flagCF, flagPF, flagZF, setZPC } from "../x87-flags";
import {
  C0,
  C1,
  C2,
  C3,
  address,
  isEmpty,
  pop,
  pushResult,
  report,
  reportFlags,
  setC1,
  setC2,
  setCodes,
  signExponent,
  significand,
  stackFault,
  write,
  writeResult,
} from "./stack";

/** FADD FMUL – – FSUB FSUBR FDIV FDIVR by the /reg field: destination := a op b, or b op a for the R forms. */
function compute(reg: u32, aSig: u64, aSe: u32, bSig: u64, bSe: u32, denormal: bool): void {
  if (reg == 0) f80Binary(ADD, aSig, aSe, bSig, bSe, denormal);
  else if (reg == 1) f80Binary(MUL, aSig, aSe, bSig, bSe, denormal);
  else if (reg == 4) f80Binary(SUB, aSig, aSe, bSig, bSe, denormal);
  else if (reg == 5) f80Binary(SUB, bSig, bSe, aSig, aSe, denormal);
  else if (reg == 6) f80Binary(DIV, aSig, aSe, bSig, bSe, denormal);
  else f80Binary(DIV, bSig, bSe, aSig, aSe, denormal);
}

/** ST(destination) := ST(0) op ST(i), and pops. */
export function arithmeticRegister(reg: u32, i: u32, destination: u32, popping: bool): void {
  if (isEmpty(0) || isEmpty(i)) {
    if (!stackFault(false)) return;
  } else {
    compute(reg, significand(0), signExponent(0), significand(i), signExponent(i), false);
    if (!report()) return;
  }
  writeResult(destination);
  if (popping) pop();
}

/** ST(0) := ST(0) op the number widened last. */
export function arithmeticMemory(reg: u32): void {
  if (isEmpty(0)) {
    if (!stackFault(false)) return;
  } else {
    compute(reg, significand(0), signExponent(0), xSig, xSe, xDenormal);
    if (!report()) return;
  }
  writeResult(0);
}

function codesOf(relation: i32): u32 {
  return relation == UNORDERED ? C0 | C2 | C3 : relation < 0 ? C0 : relation == 0 ? C3 : 0;
}

function compareWith(sig: u64, se: u32, denormal: bool, signalling: bool): bool {
  const relation = f80Compare(significand(0), signExponent(0), sig, se, denormal, signalling);
  sfSetRoundedUp(false);
  const done = report();
  setCodes(codesOf(relation));
  return done;
}

/** FCOM, FUCOM and their popping forms. */
export function compareRegister(i: u32, signalling: bool, pops: u32): void {
  if (isEmpty(0) || isEmpty(i)) {
    const masked = stackFault(false);
    setCodes(C0 | C2 | C3);
    if (!masked) return;
  } else if (!compareWith(significand(i), signExponent(i), false, signalling)) return;
  for (let n: u32 = 0; n < pops; n++) pop();
}

/** FCOM, FICOM with the number widened last. */
export function compareMemory(popping: bool): void {
  if (isEmpty(0)) {
    const masked = stackFault(false);
    setCodes(C0 | C2 | C3);
    if (!masked) return;
  } else if (!compareWith(xSig, xSe, xDenormal, true)) return;
  if (popping) pop();
}

/** FCOMI, FUCOMI. */
export function compareToFlags(i: u32, signalling: bool, popping: bool): void {
  if (isEmpty(0) || isEmpty(i)) {
    const masked = stackFault(false);
    setZPC(true, true, true);
    if (!masked) return;
  } else {
    const relation = f80Compare(
      significand(0),
      signExponent(0),
      significand(i),
      signExponent(i),
      false,
      signalling,
    );
    const done = reportFlags();
    const unordered = relation == UNORDERED;
    setZPC(unordered || relation == 0, unordered, unordered || relation < 0);
    if (!done) return;
  }
  if (popping) pop();
}

/** FTST. */
export function test(): void {
  if (isEmpty(0)) {
    stackFault(false);
    setCodes(C0 | C2 | C3);
  } else compareWith(0, 0, false, true);
}

/** FXAM. */
export function examine(): void {
  const se = signExponent(0);
  const sig = significand(0);
  const field = se & 0x7fff;
  let codes: u32;
  if (isEmpty(0)) codes = C3 | C0;
  else if (f80IsUnsupported(sig, se)) codes = 0;
  else if (f80IsNaN(sig, se)) codes = C0;
  else if (f80IsInfinite(sig, se)) codes = C2 | C0;
  else if (field != 0) codes = C2;
  else codes = sig == 0 ? C3 : C3 | C2;
  setCodes(codes | ((se & 0x8000) != 0 ? C1 : 0));
}

/** FCMOVcc: bits 0–1 of `condition` B, E, BE, U; `negated` for the N forms. */
export function conditionalMove(condition: u32, negated: bool, i: u32): void {
  if (isEmpty(0) || isEmpty(i)) {
    if (stackFault(false)) writeResult(0);
    return;
  }
  const holds =
    condition == 0 ? flagCF() : condition == 1 ? flagZF() : condition == 2 ? flagCF() || flagZF() : flagPF();
  if (holds != negated) write(0, significand(i), signExponent(i));
}

/** FXCH: an empty register counts as the default NaN if #IS is masked. */
export function exchange(i: u32): void {
  const empty0 = isEmpty(0);
  const emptyI = isEmpty(i);
  if (empty0 || emptyI) {
    if (!stackFault(false)) return;
    const nanSig = xSig;
    const nanSe = xSe;
    if (empty0) write(0, nanSig, nanSe);
    if (emptyI) write(i, nanSig, nanSe);
  } else setC1(false);
  const sig = significand(0);
  const se = signExponent(0);
  write(0, significand(i), signExponent(i));
  write(i, sig, se);
}

/** FCHS and FABS: no exception but #IS. */
export function changeSign(absolute: bool): void {
  if (isEmpty(0)) {
    if (stackFault(false)) writeResult(0);
    return;
  }
  setC1(false);
  const at = address(0);
  const se = load<u16>(at, 8);
  store<u16>(at, <u16>(absolute ? se & 0x7fff : se ^ 0x8000), 8);
}

export function squareRoot(): void {
  if (isEmpty(0)) {
    if (!stackFault(false)) return;
  } else {
    f80Sqrt(significand(0), signExponent(0));
    if (!report()) return;
  }
  writeResult(0);
}

export function roundToInteger(): void {
  if (isEmpty(0)) {
    if (!stackFault(false)) return;
  } else {
    f80RoundToInt(significand(0), signExponent(0));
    if (!report()) return;
  }
  writeResult(0);
}

/** FPREM, FPREM1. */
export function remainder(nearest: bool): void {
  if (isEmpty(0) || isEmpty(1)) {
    const masked = stackFault(false);
    setC2(false);
    if (masked) writeResult(0);
    return;
  }
  f80Remainder(significand(0), signExponent(0), significand(1), signExponent(1), nearest);
  const done = report();
  const q = quotient;
  if (settled) setC2(false);
  else if (partial) setCodes(C2);
  else setCodes(((q & 4) != 0 ? C0 : 0) | ((q & 2) != 0 ? C3 : 0) | ((q & 1) != 0 ? C1 : 0));
  if (done) writeResult(0);
}

export function scale(): void {
  if (isEmpty(0) || isEmpty(1)) {
    if (!stackFault(false)) return;
  } else {
    f80Scale(significand(0), signExponent(0), significand(1), signExponent(1));
    if (!report()) return;
  }
  writeResult(0);
}

/** FXTRACT. */
export function extract(): void {
  const underflow = isEmpty(0);
  if (underflow || !isEmpty(7)) {
    if (!stackFault(!underflow)) return;
    writeResult(0);
    pushResult();
    return;
  }
  f80Extract(significand(0), signExponent(0));
  if (!report()) return;
  writeResult(0);
  f80Set(extractedSig, extractedSe);
  pushResult();
}
