import { createMachine, type Machine, PluginRegistry } from "@northbridge/core";
import type { Hypervisor, MachineConfig, VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { hasKvm } from "./usable-kvm.ts";

const CODE = 0x1000;
const ANSWER = 0x2000;
/** Real mode: MOV EAX, 1; CPUID; MOV [ANSWER], ECX; CLI; HLT. */
const ASK = [
  ...[0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2],
  ...[0x66, 0x89, 0x0e, 0x00, 0x20, 0xfa, 0xf4],
];
/** CPUID leaf 1, ECX (SDM 2A, CPUID). KVM without a processor's help shows some others whatever it is told. */
const CX16 = 1 << 13;

const machines: Machine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.stop();
});

/** ECX of leaf 1 as a guest of a machine with this processor sees it. */
async function askGuest(cpu: MachineConfig["cpu"]): Promise<number> {
  const kvm = kvmHypervisor();
  let vm: VirtualMachine | undefined;
  const hypervisor: Hypervisor = {
    ...kvm,
    createVm: async (options) => (vm = await kvm.createVm(options)),
  };
  const registry = new PluginRegistry([], [{ name: "bare", layout: "flat", devices: () => [] }]);
  const config = { machine: "bare", memory: { mib: 1 }, ...(cpu && { cpu }) };
  const machine = await createMachine({ config, hypervisor, registry });
  machines.push(machine);
  const ram = machine.memory.slots[0]!.bytes;
  ram.set(ASK, CODE);
  const vcpu = vm!.vcpus[0]!;
  const { regs, sregs, ...rest } = vcpu.getState();
  const flat = { base: 0n, selector: 0 };
  vcpu.setState({
    ...rest,
    regs: { ...regs, rip: BigInt(CODE) },
    sregs: { ...sregs, cs: { ...sregs.cs, ...flat }, ds: { ...sregs.ds, ...flat } },
  });
  expect(await vcpu.run()).toEqual({ kind: "halt" });
  return new DataView(ram.buffer, ram.byteOffset).getUint32(ANSWER, true);
}

describe.skipIf(!hasKvm)("the processor of a config under KVM", () => {
  it("is the host's, less what the config hides", async () => {
    const asItIs = await askGuest(undefined);
    expect(asItIs & CX16).toBe(CX16);
    expect(await askGuest({ model: "host", features: { cx16: false } })).toBe((asItIs & ~CX16) >>> 0);
  });

  it("is refused by the names of features that this KVM has not, and of models that there are not", async () => {
    await expect(askGuest({ features: { "3dnow": true } })).rejects.toThrow(/cpu\.features.*3dnow/);
    await expect(askGuest({ model: "pentium" })).rejects.toThrow(/cpu\.model.*host.*pentium/);
  });
});
