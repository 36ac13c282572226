import type { Hypervisor, VirtualMachine } from "@northbridge/sdk";

const PATIENCE_MS = 1000;

/** A hypervisor whose runs end by themselves: a program that is lost must not hold the tests up. */
export function bounded(hypervisor: Hypervisor): Hypervisor {
  return {
    ...hypervisor,
    createVm: async (options) => limitRuns(await hypervisor.createVm(options)),
  };
}

function limitRuns(vm: VirtualMachine): VirtualMachine {
  for (const vcpu of vm.vcpus) {
    const run = vcpu.run.bind(vcpu);
    vcpu.run = async (options) => {
      const timer = setTimeout(() => {
        vcpu.kick();
      }, PATIENCE_MS);
      try {
        return await run(options);
      } finally {
        clearTimeout(timer);
      }
    };
  }
  return vm;
}
