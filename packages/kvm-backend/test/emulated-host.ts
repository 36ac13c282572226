import { close, open, OpenFlag } from "@northbridge/linux";
import type { CpuidLeaf, CpuModel, Hypervisor, VirtualMachine } from "@northbridge/sdk";
import { x86_64V2 } from "@northbridge/soft-backend";
import { supportedCpuid } from "../src/abi/cpuid.ts";
import { type EmulationFailureHook, kvmHypervisor, type KvmOptions } from "../src/index.ts";

const RFLAGS_AC = 0x40000n;
const BREAKPOINT = 3;

/** What such a KVM's emulator lacks and that kernel executes: INT3, STAC, CLAC and FWAIT. */
export const fixups: EmulationFailureHook = ({ regs, instructionBytes: [first, second, third] }) => {
  if (first === 0xcc) return { regs: { ...regs, rip: regs.rip + 1n }, exception: { vector: BREAKPOINT } };
  if (first === 0x9b) return { regs: { ...regs, rip: regs.rip + 1n } };
  if (first !== 0x0f || second !== 0x01 || (third !== 0xca && third !== 0xcb)) return undefined;
  const rflags = third === 0xcb ? regs.rflags | RFLAGS_AC : regs.rflags & ~RFLAGS_AC;
  return { regs: { ...regs, rip: regs.rip + 3n, rflags } };
};

/** Takes XSAVE, AVX, SSE3 and later, x2APIC and paravirtual clocks out: bits of SDM 2A, CPUID. */
function withoutExtensions(leaf: CpuidLeaf): CpuidLeaf {
  const without = (value: number, ...bits: number[]): number =>
    bits.reduce((rest, bit) => (rest & ~(1 << bit)) >>> 0, value);
  switch (leaf.leaf) {
    case 1:
      return { ...leaf, ecx: without(leaf.ecx, 0, 1, 9, 12, 13, 17, 19, 20, 23, 25, 26, 27, 28, 29, 30) };
    case 7:
      return { ...leaf, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    case 0xd:
      return { ...leaf, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    case 0x80000001:
      return { ...leaf, ecx: leaf.ecx & 1, edx: without(leaf.edx, 27) };
    case 0x40000001:
      return { ...leaf, eax: leaf.eax & 0x100000a, edx: 0 };
    case 0x80000008:
      return { ...leaf, ebx: 0 };
    default:
      return leaf;
  }
}

function plainModel(): CpuModel {
  const kvm = open("/dev/kvm", OpenFlag.O_RDWR);
  try {
    return { name: "plain", leaves: supportedCpuid(kvm).map(withoutExtensions) };
  } finally {
    close(kvm);
  }
}

/** The software CPU's own processor without the same extensions: one that both backends can be. */
export const commonModel: CpuModel = {
  name: "common",
  leaves: x86_64V2.leaves.map(withoutExtensions),
};

/**
 * KVM as a kernel without XSAVE, SMAP and later extensions boots on it where it has no processor's help.
 */
export const plainKvm = (onCreate: (vm: VirtualMachine) => void, options: KvmOptions = {}): Hypervisor =>
  withModel(kvmHypervisor({ onEmulationFailure: fixups, ...options }), plainModel(), onCreate);

/** @param onCreate sees each machine made */
export function withModel(
  inner: Hypervisor,
  cpuModel: CpuModel,
  onCreate: (vm: VirtualMachine) => void,
): Hypervisor {
  return {
    ...inner,
    createVm: async (options) => {
      const vm = await inner.createVm({ ...options, cpuModel });
      onCreate(vm);
      return vm;
    },
  };
}
