import { FPR, GPR, XMM } from "../src/cpu/layout";

export function gprPointer(n: u32): usize { return GPR + (n << 3); }
export function xmmPointer(n: u32): usize { return XMM + (n << 4); }
export function fprPointer(n: u32): usize { return FPR + (n << 4); }
