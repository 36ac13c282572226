/**
 * RCPPS, RCPSS, RSQRTPS, RSQRTSS (Intel SDM vol. 2): a relative error of at most 1.5 · 2⁻¹² is specified, the bits are
 * not and differ between processors. Here they are those of the correctly rounded result. No flags; denormal operands
 * count as zeros and tiny results become zeros whatever MXCSR says.
 */

export function reciprocal(code: u32, reg: usize, rm: usize): i32 {
  const root = (code & 0xff) == 0x52;
  if (code & 0x3000) {
    store<u32>(reg, approximate(load<u32>(rm), root));
    return 0;
  }
  const b = v128.load(rm);
  v128.store(
    reg,
    i32x4(
      approximate(i32x4.extract_lane(b, 0), root),
      approximate(i32x4.extract_lane(b, 1), root),
      approximate(i32x4.extract_lane(b, 2), root),
      approximate(i32x4.extract_lane(b, 3), root),
    ),
  );
  return 0;
}

function approximate(bits: u32, root: bool): u32 {
  const magnitude = bits & 0x7fffffff;
  const sign = bits & 0x80000000;
  if (magnitude > 0x7f800000) return bits | 0x400000;
  if (magnitude < 0x800000) return sign | 0x7f800000;
  if (root) {
    if (sign) return 0xffc00000;
    return reinterpret<u32>(<f32>(1.0 / sqrt<f64>(<f64>reinterpret<f32>(bits))));
  }
  const result = reinterpret<u32>(<f32>(<f32>1.0 / reinterpret<f32>(bits)));
  return (result & 0x7fffffff) < 0x800000 ? sign : result;
}
