import { describe, expect, it } from "vitest";
import { describeExit, instructionOf } from "../src/vcpu/describe-exit.ts";

/** `kvm_run` with words of 32 and 64 bits at the offsets that C's `offsetof` gives over `linux/kvm.h`. */
function kvmRun(
  reason: number,
  words: Readonly<Record<number, number>> = {},
  longs: Readonly<Record<number, bigint>> = {},
): DataView {
  const view = new DataView(new ArrayBuffer(4096));
  view.setUint32(8, reason, true);
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value, true);
  for (const [at, value] of Object.entries(longs)) view.setBigUint64(Number(at), value, true);
  return view;
}

describe("an exit that a guest cannot go on from", () => {
  it.each<[string, DataView, string]>([
    [
      "KVM_EXIT_FAIL_ENTRY",
      kvmRun(9, {}, { 32: 0x80000021n }),
      "the processor refused the guest's state: reason 0x80000021",
    ],
    [
      "KVM_EXIT_INTERNAL_ERROR",
      kvmRun(17, { 32: 3, 36: 2 }, { 40: 0x80000b0en, 48: 1n }),
      "KVM internal error: a fault while it delivered an event [0x80000b0e, 0x1]",
    ],
    ["KVM_EXIT_INTERNAL_ERROR of emulation", kvmRun(17, { 32: 1 }), "KVM cannot emulate the instruction"],
    ["KVM_EXIT_SYSTEM_EVENT", kvmRun(24, { 32: 3 }), "system event: crash"],
    [
      "KVM_EXIT_HYPERCALL",
      kvmRun(3, {}, { 32: 12n, 40: 0x1000n, 48: 2n, 56: 3n, 64: 4n }),
      "hypercall 12(0x1000, 0x2, 0x3, 0x4)",
    ],
    [
      "KVM_EXIT_X86_RDMSR",
      kvmRun(29, { 40: 2, 44: 0xc0000123 }),
      "RDMSR of 0xc0000123: an MSR that KVM does not know",
    ],
    [
      "KVM_EXIT_X86_WRMSR",
      kvmRun(30, { 40: 4, 44: 0x1b }, { 48: 0xfee00900n }),
      "WRMSR of 0xfee00900 to 0x1b: a filter",
    ],
    ["KVM_EXIT_EXCEPTION", kvmRun(1), "KVM_EXIT_EXCEPTION, which this backend does not know"],
    ["another", kvmRun(77), "KVM exit 77, which this backend does not know"],
  ])("is told in words: %s", (_name, run, words) => {
    expect(describeExit(run)).toBe(words);
  });

  it("has the instruction's bytes where KVM gives them", () => {
    const run = kvmRun(17, { 32: 1, 36: 4, 40: 1 });
    [3, 0x0f, 0x01, 0xd0].forEach((byte, i) => {
      run.setUint8(48 + i, byte);
    });
    expect(instructionOf(run)).toEqual(Uint8Array.of(0x0f, 0x01, 0xd0));
    expect(instructionOf(kvmRun(17, { 32: 1 }))).toBeUndefined();
  });
});
