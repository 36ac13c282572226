import type * as linux from "@northbridge/linux";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { MpState, Request } from "../src/abi/spec.ts";
import type { MsrAccess } from "../src/vcpu/msr-set.ts";
import { StateAccess } from "../src/vcpu/vcpu-state.ts";

const calls: number[] = [];
/** Group and number of those that were set. */
const attributes: string[] = [];
let mpState = 0;

vi.mock("@northbridge/linux", async (original) => ({
  ...(await original<typeof linux>()),
  ioctlBuffer: (_fd: number, request: number, { view }: { readonly view: DataView }) => {
    calls.push(request);
    if (request === Request.KVM_GET_MP_STATE) view.setUint32(0, mpState, true);
    if (request === Request.KVM_SET_DEVICE_ATTR)
      attributes.push(`${view.getUint32(4, true)}.${view.getBigUint64(8, true)}`);
    return 0;
  },
  ioctlUnchecked: (_fd: number, request: number) => {
    calls.push(request);
    return -1;
  },
}));

/** A processor of a kernel that answers everything with zeros. */
function access(msrs: ReadonlyMap<number, bigint>, refuses = false): StateAccess {
  const fake = { read: (index: number) => msrs.get(index), write: () => !refuses };
  return new StateAccess({
    fd: -1,
    index: 0,
    msrs: fake as unknown as MsrAccess,
    listed: [0x174],
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
    const msrs = new Map([TSC, [0x174, 1n]]);
    const gone = access(msrs);
    msrs.delete(0x174);
    expect(() => gone.save()).toThrow("vCPU 0: cannot read MSR 0x174");
    mpState = 9;
    expect(() => access(new Map([TSC, [0x174, 1n]])).save()).toThrow("vCPU 0: unknown KVM_GET_MP_STATE 9");
  });

  it("has the MSRs that its processor has", () => {
    const msrs = new Map([TSC, [0x174, 1n]]);
    const state = access(msrs);
    const before = state.save();
    expect(before.msrs).toEqual([TSC, [0x174, 1n]]);
    msrs.delete(0x174);
    expect(state.processorChanged(before).msrs).toEqual([TSC]);
    expect(state.save().msrs).toEqual([TSC]);
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

  it("tells of a time-stamp counter that stands still, moves it back and tells the guest (KVM API §4.76)", () => {
    const msrs = new Map([TSC, [0x174, 1n]]);
    const state = access(msrs);
    state.holdTsc();
    msrs.set(0x10, 1005n);
    expect([state.save().tsc, state.tscLag()]).toEqual([5n, 1000n]);
    calls.length = 0;
    state.releaseTsc(1000n);
    expect(calls).toEqual([
      Request.KVM_GET_DEVICE_ATTR,
      Request.KVM_SET_DEVICE_ATTR,
      Request.KVM_GET_DEVICE_ATTR,
      Request.KVM_KVMCLOCK_CTRL,
    ]);
    expect(attributes).toEqual(["0.0"]); // KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET
    expect(state.tsc()).toBe(1005n);
    state.releaseTsc(0n);
    expect(calls.length).toBe(4);
  });
});
