/** Where COMISx, PTEST and PCMPxSTRx leave the status flags. */
import { CC_OP, RFLAGS } from "../../src/cpu/layout";

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/** Sets all six status flags; AF becomes 0. */
export function setZPC(z: bool, p: bool, c: bool, s: bool, o: bool): void {
  let flags = load<u64>(RFLAGS) & ~(CF | PF | AF | ZF | SF | OF);
  if (z) flags |= ZF;
  if (p) flags |= PF;
  if (c) flags |= CF;
  if (s) flags |= SF;
  if (o) flags |= OF;
  store<u64>(RFLAGS, flags);
  store<u32>(CC_OP, 0);
}
