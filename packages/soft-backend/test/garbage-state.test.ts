/** Ring 0 with garbage for page tables, descriptors, gates and code: the run always ends, and with a reason. */
import type { VmExit } from "@northbridge/sdk";
import { expect, it } from "vitest";
import { Random } from "./fuzz/random.ts";
import { garbageState, RAM_BYTES } from "./fuzz/ring0-state.ts";
import { bareGuest } from "./machine/flat-guest.ts";

const CASES = 400;
const INSTRUCTIONS = 1000;
/** After this much guest time of sleep, a halted processor is taken for done. */
const PATIENCE_NS = 1e9;
const KNOWN_LACKS =
  /^not implemented: (hardware task switch|call gate|virtual-8086 mode|x87 exception with CR0\.NE clear)$/;

/** What is wrong with an exit; nothing if it is one that a guest's garbage may have. */
function complaint(exit: VmExit): string | undefined {
  if (exit.kind === "debug") return "nobody asked for debugging";
  if (exit.kind === "error" && (!KNOWN_LACKS.test(exit.detail) || exit.rip === undefined)) return exit.detail;
  return undefined;
}

/** Opt-in for longer: NORTHBRIDGE_FUZZ_SECONDS; NORTHBRIDGE_FUZZ_SEED chooses the first case. */
it("garbage in every table ends with an exit", async () => {
  const seconds = Number(process.env["NORTHBRIDGE_FUZZ_SECONDS"] ?? "0");
  const first = Number(process.env["NORTHBRIDGE_FUZZ_SEED"] ?? "1");
  const { vm, ram, clock } = await bareGuest();
  const vcpu = vm.vcpus[0]!;
  const start = vcpu.getState();
  const patience = clock.createTimer(() => {
    vcpu.kick();
  });
  const seen = new Map<string, number>();
  const until = performance.now() + seconds * 1000;
  for (let seed = first; seed < first + CASES || performance.now() < until; seed++) {
    ram.bytes.fill(0);
    vcpu.setState(garbageState(new Random(seed), ram.bytes, start));
    vm.memoryWritten(0, RAM_BYTES);
    patience.arm(clock.nowNs() + PATIENCE_NS);
    const before = vm.stats()["instructions"]!;
    const exit = await vcpu.run({ instructions: INSTRUCTIONS });
    patience.disarm();
    expect(complaint(exit), `seed ${seed}`).toBeUndefined();
    expect(vm.stats()["instructions"]! - before, `seed ${seed}`).toBeLessThanOrEqual(INSTRUCTIONS);
    const kind = exit.kind === "error" ? exit.detail : exit.kind;
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    vcpu.getState(); // still to be had
  }
  if (seconds > 0) console.log(Object.fromEntries(seen));
  // The generator is of use only as long as it gets everywhere.
  for (const kind of ["shutdown", "budget", "not implemented: hardware task switch"])
    expect(seen.get(kind) ?? 0, kind).toBeGreaterThan(CASES / 100);
}, 600_000);
