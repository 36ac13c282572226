import { createMachine, type MachineOptions } from "./create-machine.ts";

/**
 * Makes a machine as `createMachine` does, and closes it: every device is set up, and says what it cannot be. Host ends are
 * tried (`HostEndKind.tryOpen`), not opened. Throws what `createMachine` throws.
 */
export async function tryMachine(
  options: Pick<MachineOptions, "config" | "hypervisor" | "registry" | "adapt">,
): Promise<void> {
  const machine = await createMachine({ ...options, isTrial: true });
  await machine.stop();
}
