export function reciprocal(code: u32, reg: usize, rm: usize): i32 {
  return 6;
}
