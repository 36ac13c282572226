import { type Hypervisor, NorthbridgeError, x86_64V2 } from "@northbridge/sdk";
import { MAX_GUEST_MEMORY } from "./cpu/core.ts";
import { MAX_VCPUS } from "./cpu/layout.ts";
import { unmetClaims } from "./cpuid/feature-claims.ts";
import { SoftVm } from "./soft-vm.ts";

/**
 * The backend that runs wherever Node runs: an x86-64 processor in WebAssembly, its vCPUs time-sliced on the machine
 * thread. `createVm` throws `NB_BACKEND` where the machine is larger than the backend can hold, or the CPU model claims
 * features that the processor lacks.
 */
export function softHypervisor(): Hypervisor {
  return {
    name: "soft",
    limits: { memoryMib: Math.floor(MAX_GUEST_MEMORY / 2 ** 20), vcpus: MAX_VCPUS },
    cpuModels: () => [x86_64V2],
    unmetClaims,
    createVm: (options) => {
      const { vcpus } = options;
      if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
        return Promise.reject(
          new NorthbridgeError("NB_BACKEND", `vcpus: the software CPU has 1 to ${MAX_VCPUS}, found ${vcpus}`),
        );
      }
      return SoftVm.create(options);
    },
  };
}
