/** Rounding of an exact value to a format, with the exceptions that follow from it (SDM 1 §4.9.1.4–6). */
import { low, shiftRightJam } from "./int128";
import {
  DOWN,
  NEAREST,
  OE,
  PE,
  UE,
  UP,
  ZERO,
  sfFtz,
  sfMasks,
  sfRaise,
  sfRounding,
  sfSetRoundedUp,
} from "./environment";

/** Significand of the last rounding, `precision` bits wide; narrower for denormals, 0 for zero. */
export let kept: u64 = 0;
/** Unbiased exponent of the last rounding. `TINY` for denormals and zero, `HUGE` for infinity. */
export let exponent: i32 = 0;

export const TINY: i32 = -0x8000000;
export const HUGE: i32 = 0x7ffffff;

let inexact: bool = false;
let carried: bool = false;

/** Rounds hi:lo (weight of the top bit fixed) to its `precision` top bits. */
function roundSignificand(sign: u32, hi: u64, lo: u64, precision: u32): u64 {
  const cut = 64 - precision;
  const fraction = cut == 0 ? lo : (hi << precision) | u64(lo != 0);
  let result = hi >> cut;
  let up = false;
  inexact = fraction != 0;
  carried = false;
  if (inexact) {
    if (sfRounding == NEAREST) {
      const half: u64 = 1 << 63;
      up = fraction > half || (fraction == half && (result & 1) != 0);
    } else if (sfRounding == DOWN) up = sign != 0;
    else if (sfRounding == UP) up = sign == 0;
    if (up) {
      result++;
      carried = cut == 0 ? result == 0 : result >> precision != 0;
      if (carried) result = (1 as u64) << (precision - 1);
    }
  }
  sfSetRoundedUp(up);
  return result;
}

/**
 * Rounds ±hi:lo·2^(exp−127), top bit of hi set. Leaves `kept` and `exponent`.
 * `wrap` is what x87 adds to the exponent of an unmasked underflow or subtracts from that of an overflow when the
 * destination is a register (24576); 0 where no result is written then.
 */
export function round(
  sign: u32,
  exp: i32,
  hi: u64,
  lo: u64,
  precision: u32,
  minExp: i32,
  maxExp: i32,
  flush: bool,
  wrap: i32,
): void {
  let result = roundSignificand(sign, hi, lo, precision);
  let e = exp + i32(carried);
  if (e < minExp) {
    if ((sfMasks & UE) == 0) {
      sfRaise(UE | (inexact ? PE : 0));
      kept = result;
      exponent = e + wrap;
      return;
    }
    if (flush && sfFtz) {
      sfRaise(UE | PE);
      kept = 0;
      exponent = TINY;
      return;
    }
    const h = shiftRightJam(hi, lo, u32(min(minExp - exp, 200)));
    result = roundSignificand(sign, h, low, precision);
    if (inexact) sfRaise(UE | PE);
    kept = result;
    exponent = TINY;
    return;
  }
  if (exp < minExp) {
    // Rounds up to the smallest normal number: not tiny, but the bits that count are those of a denormal.
    const h = shiftRightJam(hi, lo, u32(minExp - exp));
    result = roundSignificand(sign, h, low, precision);
    if (inexact) sfRaise(PE);
    kept = result;
    exponent = TINY;
    return;
  }
  if (e > maxExp) {
    if ((sfMasks & OE) == 0) {
      sfRaise(OE | (inexact ? PE : 0));
      kept = result;
      exponent = e - wrap;
      return;
    }
    sfRaise(OE | PE);
    const toInfinity =
      sfRounding == NEAREST || (sfRounding == DOWN && sign != 0) || (sfRounding == UP && sign == 0);
    sfSetRoundedUp(toInfinity);
    if (toInfinity) {
      kept = 0;
      exponent = HUGE;
    } else {
      kept = <u64>-1 >> (64 - precision);
      exponent = maxExp;
    }
    return;
  }
  if (inexact) sfRaise(PE);
  kept = result;
  exponent = e;
}

/** Integer of the last `roundInteger`. */
export let integer: u64 = 0;
/** The last `roundInteger` did not fit 64 bits. */
export let integerOverflow: bool = false;
/** The last `roundInteger` dropped a fraction. */
export let integerInexact: bool = false;

/** Rounds ±sig·2^(exp−63) to an integer magnitude. Leaves `integer`, `integerOverflow`, `integerInexact`. */
export function roundInteger(sign: u32, exp: i32, sig: u64, mode: u32): void {
  integerOverflow = exp > 63;
  integerInexact = false;
  sfSetRoundedUp(false);
  if (integerOverflow) {
    integer = 0;
    return;
  }
  const whole = shiftRightJam(sig, 0, u32(min(63 - exp, 200)));
  const fraction = low;
  integer = whole;
  if (fraction == 0) return;
  integerInexact = true;
  const half: u64 = 1 << 63;
  const up =
    mode == NEAREST
      ? fraction > half || (fraction == half && (whole & 1) != 0)
      : mode == ZERO
        ? false
        : mode == DOWN
          ? sign != 0
          : sign == 0;
  if (up) {
    integer = whole + 1;
    integerOverflow = integer == 0;
  }
  sfSetRoundedUp(up);
}
