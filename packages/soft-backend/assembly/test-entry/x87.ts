/** What the tests drive directly. Not part of the core. */
import { RFLAGS } from "../../src/cpu/layout";
import { readFlags, writeFlags } from "../flags";
import { x87Exec as execute } from "../x87";

export { fxrstor, fxsave, x87Info, x87Initialise, x87Reset, x87Stored, x87Wait } from "../x87";
export * from "../softfloat/environment";
export * from "../softfloat/f32";
export * from "../softfloat/f64";

/** With RFLAGS whole before and after, as between runs of the core. */
export function x87Exec(opcode: u32, modrm: u32, ptr: usize, rip: u64, ea: u64, opsize16: bool): i32 {
  writeFlags(load<u64>(RFLAGS));
  const vector = execute(opcode, modrm, ptr, rip, ea, opsize16);
  store<u64>(RFLAGS, readFlags());
  return vector;
}
