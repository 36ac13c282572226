import type { Hypervisor } from "@northbridge/core/contracts";

/** A backend for devices alone: memory that nobody uses, interrupts that nobody takes, no processor. */
export const noProcessor: Hypervisor = {
  name: "none",
  createVm: () =>
    Promise.resolve({
      vcpus: [],
      addMemory: ({ name, gpa, length, readOnly = false }) => ({
        name,
        gpa,
        length,
        readOnly,
        bytes: new Uint8Array(new SharedArrayBuffer(length)),
      }),
      memoryWritten: () => undefined,
      setIrq: () => undefined,
      msi: { signal: () => undefined },
      irqchip: { save: () => null, restore: () => undefined },
      dirtyLog: { enable: () => undefined, disable: () => undefined, harvest: () => [] },
      stats: () => ({}),
      close: () => Promise.resolve(),
    }),
};
