export function compareMask(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  return 6;
}
export function compareOrdered(code: u32, reg: usize, rm: usize): i32 {
  return 6;
}
