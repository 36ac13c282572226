/** The transcendental instructions: special operands, stack and status (SDM 2A). */
import {
  CLASS_FINITE,
  CLASS_INFINITE,
  CLASS_ZERO,
  uClass,
  uDenormal,
  uExp,
  uSig,
  uSign,
  unpack80,
} from "../softfloat/arithmetic";
import { PE, UE, ZE, sfRaise, sfSetRoundedUp } from "../softfloat/environment";
import { f80Denormal, f80Invalid, f80RoundFull, f80Set, f80Special, xSe, xSig } from "../softfloat/f80";
import {
  isExact,
  isZero,
  logarithm,
  logarithmOfSum,
  negative as logNegative,
  powerMinusOne,
} from "../softfloat/logarithmic";
import { qExp, qHi, qLo, qMul } from "../softfloat/real128";
import {
  arctangent,
  cosine,
  negative as angleNegative,
  quarterTurns,
  reduceAngle,
  sine,
  tangent,
} from "../softfloat/trigonometric";
import {
  isEmpty,
  pop,
  pushResult,
  report,
  setC1,
  setC2,
  signExponent,
  significand,
  stackFault,
  writeResult,
} from "./stack";

const ONE: u64 = 1 << 63;

/** Executes D9 F0–F3, F9, FB, FE or FF. */
export function transcendental(modrm: u32): void {
  switch (modrm) {
    case 0xf0:
      powerOfTwo();
      break;
    case 0xf1:
      popping(0);
      break;
    case 0xf2:
      withPush(true);
      break;
    case 0xf3:
      popping(1);
      break;
    case 0xf9:
      popping(2);
      break;
    case 0xfb:
      withPush(false);
      break;
    case 0xfe:
      circular(true);
      break;
    default:
      circular(false);
  }
}

/** Rounds the irrational number in `qHi`, `qLo`, `qExp`. */
function roundIrrational(negative: bool): void {
  f80RoundFull(u32(negative), qExp, qHi, qLo | 1);
}

/** Settles what needs no reduction: NaN, infinity, unmasked denormal, zero, too large. True if it did. */
function angleSettled(sig: u64, se: u32): bool {
  if (f80Special(sig, se, sig, se)) return true;
  unpack80(sig, se);
  if (uClass == CLASS_INFINITE) {
    f80Invalid();
    return true;
  }
  return f80Denormal(uDenormal);
}

/** |x| ≥ 2^63: C2, and nothing else happens. */
function outOfRange(se: u32): bool {
  const field = se & 0x7fff;
  if (field < 16383 + 63 || field == 0x7fff) return false;
  setC1(false);
  setC2(true);
  return true;
}

/** FSIN, FCOS. */
function circular(sin: bool): void {
  if (isEmpty(0)) {
    const masked = stackFault(false);
    setC2(false);
    if (masked) writeResult(0);
    return;
  }
  const sig = significand(0);
  const se = signExponent(0);
  if (sig >> 63 != 0 && outOfRange(se)) return;
  setC2(false);
  if (!angleSettled(sig, se)) {
    if (uClass == CLASS_ZERO) {
      if (sin) f80Set(sig, se);
      else f80Set(ONE, 16383);
    } else {
      reduceAngle(uSig, uExp);
      if (sin) {
        sine();
        roundIrrational(angleNegative != ((se & 0x8000) != 0));
      } else {
        cosine();
        roundIrrational(angleNegative);
      }
    }
  }
  if (report()) writeResult(0);
}

/** FPTAN and FSINCOS: ST(0) is replaced, 1.0 or the cosine is pushed. */
function withPush(tan: bool): void {
  const underflow = isEmpty(0);
  if (underflow || !isEmpty(7)) {
    const masked = stackFault(!underflow);
    setC2(false);
    if (!masked) return;
    writeResult(0);
    pushResult();
    return;
  }
  const sig = significand(0);
  const se = signExponent(0);
  if (sig >> 63 != 0 && outOfRange(se)) return;
  setC2(false);
  let secondSig = ONE;
  let secondSe: u32 = 16383;
  if (angleSettled(sig, se)) {
    secondSig = xSig;
    secondSe = xSe;
  } else if (uClass == CLASS_ZERO) f80Set(sig, se);
  else {
    const signed = (se & 0x8000) != 0;
    reduceAngle(uSig, uExp);
    if (tan) {
      tangent();
      roundIrrational(angleNegative != signed);
    } else {
      cosine();
      roundIrrational(angleNegative);
      secondSig = xSig;
      secondSe = xSe;
      sine();
      roundIrrational(angleNegative != signed);
    }
  }
  if (!report()) return;
  writeResult(0);
  f80Set(secondSig, secondSe);
  pushResult();
}

/** F2XM1. Beyond [−1, 1] the result is undefined: the operand stays, as on processors. */
function powerOfTwo(): void {
  if (isEmpty(0)) {
    if (stackFault(false)) writeResult(0);
    return;
  }
  const sig = significand(0);
  const se = signExponent(0);
  if (!f80Special(sig, se, sig, se)) {
    unpack80(sig, se);
    sfSetRoundedUp(false);
    if (!f80Denormal(uDenormal)) {
      const negative = uSign != 0;
      if (uClass == CLASS_FINITE && uExp < 0) {
        powerMinusOne(negative, uSig, uExp);
        roundIrrational(negative);
      } else if (uClass == CLASS_INFINITE) f80Set(negative ? ONE : sig, negative ? 0xbfff : se);
      else if (uClass == CLASS_ZERO) f80Set(sig, se);
      else {
        sfRaise(PE);
        f80Set(sig, sig == ONE && se == 0xbfff ? 0xbffe : se);
      }
    }
  }
  if (report()) writeResult(0);
}

/** FYL2X (0), FPATAN (1), FYL2XP1 (2): ST(1) := f(ST(0), ST(1)), and pops. */
function popping(operation: u32): void {
  if (isEmpty(0) || isEmpty(1)) {
    if (!stackFault(false)) return;
  } else {
    const xS = significand(0);
    const xE = signExponent(0);
    const yS = significand(1);
    const yE = signExponent(1);
    if (!f80Special(xS, xE, yS, yE)) {
      sfSetRoundedUp(false);
      if (operation == 1) angle(xS, xE, yS, yE);
      else scaledLogarithm(operation == 2, xS, xE, yS, yE);
    }
    if (!report()) return;
  }
  writeResult(1);
  pop();
}

/** atan2(y, x). */
function angle(xS: u64, xE: u32, yS: u64, yE: u32): void {
  unpack80(xS, xE);
  const xClass = uClass;
  const xExp = uExp;
  const xSignificand = uSig;
  const left = uSign != 0;
  let denormal = uDenormal;
  unpack80(yS, yE);
  denormal = denormal || uDenormal;
  if (f80Denormal(denormal)) return;
  const negative = uSign != 0;
  if (uClass == CLASS_INFINITE) quarterTurns(xClass != CLASS_INFINITE ? 2 : left ? 3 : 1);
  else if (uClass == CLASS_ZERO || xClass == CLASS_INFINITE) {
    if (!left) {
      f80Set(0, yE & 0x8000);
      return;
    }
    quarterTurns(4);
  } else if (xClass == CLASS_ZERO) quarterTurns(2);
  else arctangent(uSig, uExp, xSignificand, xExp, left);
  roundIrrational(negative);
}

/** y·log2(x) or y·log2(1 + x). */
function scaledLogarithm(plusOne: bool, xS: u64, xE: u32, yS: u64, yE: u32): void {
  unpack80(yS, yE);
  const yClass = uClass;
  const ySign = uSign;
  const yExp = uExp;
  const ySignificand = uSig;
  let denormal = uDenormal;
  unpack80(xS, xE);
  denormal = denormal || uDenormal;
  const xSign = uSign;
  if (!plusOne) {
    if (uClass == CLASS_ZERO) {
      if (yClass == CLASS_ZERO) f80Invalid();
      else if (yClass == CLASS_INFINITE) f80Set(ONE, 0x7fff | ((ySign ^ 1) << 15));
      else {
        sfRaise(ZE);
        f80Set(ONE, 0x7fff | ((ySign ^ 1) << 15));
      }
      return;
    }
    if (xSign != 0) {
      f80Invalid();
      return;
    }
  }
  if (uClass == CLASS_INFINITE) {
    if (yClass == CLASS_ZERO || xSign != 0) f80Invalid();
    else if (!f80Denormal(denormal)) f80Set(ONE, 0x7fff | (ySign << 15));
    return;
  }
  if (uClass == CLASS_ZERO) {
    // log2(1 ± 0) keeps the sign of the zero.
    if (yClass == CLASS_INFINITE) f80Invalid();
    else if (!f80Denormal(denormal)) f80Set(0, (ySign ^ xSign) << 15);
    return;
  }
  if (plusOne) {
    if (xSign != 0 && uExp >= 0) {
      // Undefined; processors give the operand.
      if (f80Denormal(denormal)) return;
      if (yClass == CLASS_INFINITE) f80Set(ONE, 0x7fff | ((ySign ^ 1) << 15));
      else if (yClass == CLASS_ZERO) f80Set(0, (ySign ^ 1) << 15);
      else {
        sfRaise(PE);
        f80Set(xS, xE);
      }
      return;
    }
    if (uExp >= 0 || (xSign != 0 && uExp == -1)) {
      // Beyond the range of the instruction: 1 + x, rounded to 64 bits where it must.
      if (xSign != 0) {
        const rest = 0 - uSig;
        const shift = clz(rest);
        logarithm(rest << shift, -1 - i32(shift));
      } else if (uExp >= 64) logarithm(uSig, uExp);
      else {
        const sum = uSig + (ONE >> u32(uExp));
        if (sum < uSig) logarithm((sum >> 1) | ONE, uExp + 1);
        else logarithm(sum, uExp);
      }
    } else logarithmOfSum(xSign != 0, uSig, uExp);
  } else logarithm(uSig, uExp);
  const sign = ySign ^ u32(logNegative);
  if (isZero) {
    if (yClass == CLASS_INFINITE) f80Invalid();
    else if (!f80Denormal(denormal)) f80Set(0, ySign << 15);
    return;
  }
  if (yClass == CLASS_INFINITE) {
    if (!f80Denormal(denormal)) f80Set(ONE, 0x7fff | (sign << 15));
    return;
  }
  if (f80Denormal(denormal)) return;
  if (yClass == CLASS_ZERO) {
    f80Set(0, sign << 15);
    return;
  }
  qMul(qHi, qLo, qExp, ySignificand, 0, yExp);
  // Processors report even an exact product as inexact, and as underflow if it is tiny.
  sfRaise(PE);
  f80RoundFull(sign, qExp, qHi, qLo | u64(!isExact));
  if (isExact && (xSe & 0x7fff) == 0) sfRaise(UE);
}
