import type * as linux from "@northbridge/linux";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { MpState, Request } from "../src/abi/spec.ts";
import type { MsrAccess } from "../src/vcpu/msr-set.ts";
import { StateAccess } from "../src/vcpu/vcpu-state.ts";

const calls: number[] = [];
let mpState = 0;

vi.mock("@northbridge/linux", async (original) => ({
  ...(await original<typeof linux>()),
  ioctlBuffer: (_fd: number, request: number, { view }: { readonly view: DataView }) => {
    calls.push(request);
    if (request === Request.KVM_GET_MP_STATE) view.setUint32(0, mpState, true);
    return 0;
  },
}));

/** A processor of a kernel that answers everything with zeros. */
function access(msrs: ReadonlyMap<number, bigint>, refuses = false): StateAccess {
  const fake = { read: (index: number) => msrs.get(index), write: () => !refuses };
  return new StateAccess({
    fd: -1,
    index: 0,
    msrs: fake as unknown as MsrAccess,
    savable: [0x174],
    xsaveBytes: 4096,
    hasLocalApic: true,
  });
}
const TSC = [0x10, 5n] as const;

beforeEach(() => {
  calls.length = 0;
  mpState = MpState.RUNNABLE;
});

describe("how the kernel is asked for a processor's state", () => {
  it("makes it take INITs first and put down what goes with exceptions then (KVM API §4.31, §4.38)", () => {
    access(new Map([TSC, [0x174, 1n]])).save();
    const at = (name: keyof typeof Request): number => calls.indexOf(Request[name]);
    const order = [at("KVM_GET_MP_STATE"), at("KVM_GET_VCPU_EVENTS"), at("KVM_GET_SREGS")];
    expect(order).toEqual([0, 1, Math.max(2, order[2]!)]);
    for (const name of ["KVM_GET_LAPIC", "KVM_GET_DEBUGREGS", "KVM_GET_REGS"] as const)
      expect(at(name)).toBeGreaterThan(1);
  });

  it("takes no answer for none: MSRs that cannot be read, states that nobody knows", () => {
    expect(() => access(new Map([TSC])).save()).toThrow("vCPU 0: cannot read MSR 0x174");
    mpState = 9;
    expect(() => access(new Map([TSC, [0x174, 1n]])).save()).toThrow("vCPU 0: unknown KVM_GET_MP_STATE 9");
  });

  it("is refused an MSR's 0 where there is another value", () => {
    const state = {
      ...access(new Map([TSC, [0x174, 0n]])).save(),
      lapic: Buffer.alloc(1024).toString("base64"),
    };
    expect(() => {
      access(new Map([TSC, [0x174, 3n]]), true).load(state);
    }).toThrow(/KVM refuses MSRs 0x174 = 0x0/);
    access(new Map([TSC]), true).load(state);
  });
});
