import { createMachine, type Machine, PluginRegistry } from "@northbridge/core";
import { type Hypervisor, type MachineConfig, type VirtualMachine, x86_64V2 } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { hasKvm } from "./usable-kvm.ts";

const CODE = 0x1000;
const ANSWER = 0x2000;
/** Real mode: MOV EAX, leaf; CPUID; MOV [ANSWER], EAX; EBX, ECX, EDX behind it; CLI; HLT. */
const ask = (leaf: number): readonly number[] => [
  ...[0x66, 0xb8, leaf & 0xff, (leaf >> 8) & 0xff, (leaf >> 16) & 0xff, leaf >>> 24, 0x0f, 0xa2],
  ...[0x66, 0xa3, 0x00, 0x20, 0x66, 0x89, 0x1e, 0x04, 0x20],
  ...[0x66, 0x89, 0x0e, 0x08, 0x20, 0x66, 0x89, 0x16, 0x0c, 0x20, 0xfa, 0xf4],
];
/** CPUID leaf 1, ECX (SDM 2A, CPUID). KVM without a processor's help shows some others whatever it is told. */
const CX16 = 1 << 13;

const machines: Machine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.stop();
});

type Registers = readonly [eax: number, ebx: number, ecx: number, edx: number];

/** A leaf as a guest of a machine with this processor sees it. */
async function askGuest(cpu: MachineConfig["cpu"], leaf = 1): Promise<Registers> {
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
  ram.set(ask(leaf), CODE);
  const vcpu = vm!.vcpus[0]!;
  const { regs, sregs, ...rest } = vcpu.getState();
  const flat = { base: 0n, selector: 0 };
  vcpu.setState({
    ...rest,
    regs: { ...regs, rip: BigInt(CODE) },
    sregs: { ...sregs, cs: { ...sregs.cs, ...flat }, ds: { ...sregs.ds, ...flat } },
  });
  expect(await vcpu.run()).toEqual({ kind: "halt" });
  const view = new DataView(ram.buffer, ram.byteOffset + ANSWER);
  return [
    view.getUint32(0, true),
    view.getUint32(4, true),
    view.getUint32(8, true),
    view.getUint32(12, true),
  ];
}

describe.skipIf(!hasKvm)("the processor of a config under KVM", () => {
  it("is the host's, less what the config hides", async () => {
    const [, , asItIs] = await askGuest(undefined);
    expect(asItIs & CX16).toBe(CX16);
    const [, , without] = await askGuest({ model: "host", features: { cx16: false } });
    expect(without).toBe((asItIs & ~CX16) >>> 0);
  });

  it("is the software CPU's model, once what this KVM lacks is hidden by name", async () => {
    const kvm = kvmHypervisor();
    const lacked = kvm.unmetClaims!(x86_64V2);
    if (lacked.length > 0) {
      await expect(askGuest({ model: "x86-64-v2" })).rejects.toThrow(
        `cpu.model: x86-64-v2 has what the kvm backend lacks: ${lacked.join(", ")}; cpu.features can hide it`,
      );
    }
    const cpu = { model: "x86-64-v2", features: Object.fromEntries(lacked.map((name) => [name, false])) };
    const brand = [0x8000_0002, 0x8000_0003, 0x8000_0004].map((leaf) => askGuest(cpu, leaf));
    const text = Buffer.from(new Uint32Array((await Promise.all(brand)).flat()).buffer).toString("latin1");
    expect(text.replaceAll("\0", "")).toBe("Northbridge x86-64-v2 virtual CPU");
    const signature = x86_64V2.leaves.find(({ leaf }) => leaf === 1)!.eax;
    expect(await askGuest(cpu)).toMatchObject({ 0: signature });
    // SDM 2A, CPUID leaf 15H: the counter's frequency is ECX * EBX / EAX; leaf 40000010H has it in kHz.
    const [denominator, numerator, crystal] = await askGuest(cpu, 0x15);
    const [khz] = await askGuest(cpu, 0x4000_0010);
    expect((crystal * numerator) / denominator).toBe(khz * 1000);
    expect(khz).toBeGreaterThan(100_000);
  });

  it("is refused by the names of features that this KVM has not, and of models that there are not", async () => {
    await expect(askGuest({ features: { "3dnow": true } })).rejects.toThrow(/cpu\.features.*3dnow/);
    await expect(askGuest({ model: "pentium" })).rejects.toThrow(/cpu\.model.*host.*pentium/);
  });
});
