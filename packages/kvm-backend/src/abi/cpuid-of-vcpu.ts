import { type CpuidLeaf, type CpuModel, withTopology, withTscRate } from "@northbridge/sdk";

/** What of CPUID depends on the machine and on the processor in it. */
export interface VcpuPlace {
  /** The processor's number, which is its APIC id. */
  readonly index: number;
  readonly vcpus: number;
  readonly tscKhz: number;
}

/** A model's leaves with what depends on the vCPU filled in: its topology, and the rate of its counter. */
export function leavesOf(model: CpuModel, { index, vcpus, tscKhz }: VcpuPlace): readonly CpuidLeaf[] {
  return withTscRate(withTopology(model.leaves, { apicId: index, vcpus }), tscKhz);
}
