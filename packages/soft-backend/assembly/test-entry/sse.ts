/** What the tests drive directly. Not part of the core. */
import { RFLAGS } from "../../src/cpu/layout";
import { readFlags, writeFlags } from "../flags";
import { sseExec as execute } from "../sse/exec";

export { sseInfo } from "../sse/info";

/** With RFLAGS whole before and after, as between runs of the core. */
export function sseExec(code: u32, reg: usize, rm: usize, imm: u32): i32 {
  writeFlags(load<u64>(RFLAGS));
  const vector = execute(code, reg, rm, imm);
  store<u64>(RFLAGS, readFlags());
  return vector;
}
