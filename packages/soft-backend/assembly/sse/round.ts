export function roundPs(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
export function roundPd(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
export function roundSs(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
export function roundSd(reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
