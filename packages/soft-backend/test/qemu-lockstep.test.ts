import { VirtualClock } from "@northbridge/core";
import { GuestBench, Gpa, WINDOW } from "@northbridge/sdk/conformance";
import { describe, expect, it } from "vitest";
import { softHypervisor } from "../src/index.ts";
import { Random } from "./fuzz/random.ts";
import { privilegedProgram } from "./qemu/privileged-generator.ts";
import { skipReason } from "./qemu/skip-reason.ts";
import { differences, qemuWindows, windowOf } from "./qemu/windows.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";
const SEED = Number(process.env["NORTHBRIDGE_FUZZ_SEED"] ?? "1");
const PROGRAMS = 4;
const INSTRUCTIONS = 400;
const MOST_STEPS = 62_000;
const CODE_BYTES = 0x40000;

/** The bytes at `rip`; in the window, those of all the pages it may show. */
function showCode(ram: Uint8Array, rip: bigint): string {
  const offset = Number(rip & 0xfffn);
  const starts =
    rip < BigInt(WINDOW) ? [Number(rip)] : [4, 5, 6, 7].map((n) => Gpa.PAGES + 0x1000 * n + offset);
  const bytes = starts.map((start) => Buffer.from(ram.subarray(start, start + 12)).toString("hex"));
  return `0x${rip.toString(16)}: ${bytes.join(" or ")}`;
}

/**
 * Where this processor, executing instruction by instruction, leaves QEMU's windows: what differs, and what both had
 * before. An exception's delivery and the handler's first instruction are one step here; an iteration of a repeated
 * string instruction is a step there.
 */
async function firstDifference(seed: number): Promise<{ steps: number; difference: readonly string[] }> {
  const g = privilegedProgram(new Random(seed), INSTRUCTIONS);
  const bench = await GuestBench.create({
    createHypervisor: softHypervisor,
    createClock: () => new VirtualClock(),
  });
  try {
    bench.load(g);
    const vcpu = bench.vcpu();
    const start = vcpu.getState();
    vcpu.setState({ ...start, regs: { ...start.regs, rax: start.regs.rip } }); // as the loader leaves it
    const windows = qemuWindows(QEMU, vcpu.getState(), bench.ram.bytes, [
      [Gpa.CODE, CODE_BYTES],
      [WINDOW, 0x10000],
    ]);
    let at = 0;
    let before = windowOf(vcpu.getState(), 0);
    for (let steps = 0; steps < MOST_STEPS; steps++) {
      const state = vcpu.getState();
      const ours = windowOf(state, state.sregs.ss.dpl);
      let theirs = windows[at];
      if (theirs === undefined) return { steps, difference: [] };
      for (let skip = 0; skip < 8 && theirs["rip"] !== ours["rip"]; skip++) theirs = windows[++at] ?? theirs;
      const difference = differences(ours, theirs);
      if (difference.length > 0) {
        return {
          steps,
          difference: [...difference, `after ${showCode(bench.ram.bytes, before["rip"] ?? 0n)}`],
        };
      }
      at++;
      before = ours;
      const exit = await vcpu.run({ instructions: 1 });
      if (exit.kind !== "budget") return { steps, difference: exit.kind === "shutdown" ? [] : [exit.kind] };
    }
    return { steps: MOST_STEPS, difference: [] };
  } finally {
    await bench.close();
  }
}

/** Opt-in (`NORTHBRIDGE_QEMU=1`): random system instructions, register windows compared with QEMU's step by step. */
describe.skipIf(skipReason(QEMU) !== undefined)(`lockstep with QEMU${skipReason(QEMU) ?? ""}`, () => {
  for (let seed = SEED; seed < SEED + PROGRAMS; seed++) {
    it(`program ${seed}`, { timeout: 60_000 }, async () => {
      const { steps, difference } = await firstDifference(seed);
      expect(difference).toEqual([]);
      expect(steps).toBeGreaterThan(INSTRUCTIONS);
    });
  }
});
