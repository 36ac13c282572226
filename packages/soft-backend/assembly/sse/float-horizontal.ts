export function horizontal(code: u32, reg: usize, rm: usize): i32 {
  return 6;
}
export function dotPs(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
export function dotPd(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
