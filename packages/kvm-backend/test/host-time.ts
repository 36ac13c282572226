import { RealtimeClock } from "@northbridge/core";
import type { DrivenClock, VcpuState, VirtualMachine } from "@northbridge/sdk";
import { kvmHypervisor } from "../src/index.ts";

/** A running clock on the host's time. */
export function realtime(): DrivenClock {
  const clock = new RealtimeClock();
  clock.resume();
  return clock;
}

const IA32_TSC = 0x10;

/** What a machine that is not used says. */
async function ask<T>(question: (vm: VirtualMachine) => T): Promise<T> {
  const bus = { read: () => 0, write: () => undefined };
  const vm = await kvmHypervisor().createVm({
    vcpus: 1,
    clock: realtime(),
    memoryBytes: 0,
    ports: bus,
    mmio: bus,
  });
  const answer = question(vm);
  await vm.close();
  return answer;
}

/** Rate of time-stamp counters under this KVM: not every one has others. */
export const hostTscKhz = (): Promise<number> => ask(({ cpuModel }) => cpuModel!.tscKhz!);

/**
 * A state whose time-stamp counter is what guests of KVM read here: without a processor's help KVM cannot set it, so
 * that only a guest who began with it can move there.
 */
export async function atHostTsc(state: VcpuState): Promise<VcpuState> {
  const tsc = await ask(({ vcpus }) => vcpus[0]!.getState().tsc);
  return {
    ...state,
    tsc,
    msrs: state.msrs.map(([index, value]) => [index, index === IA32_TSC ? tsc : value]),
  };
}
