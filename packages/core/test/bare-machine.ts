import type { MachineConfig, StopReason } from "../src/contracts/index.ts";
import { PluginRegistry } from "../src/composition/plugin-registry.ts";
import { RingBufferBackend } from "../src/host/ring-buffer.ts";
import { debugConsole, powerPort } from "../src/testing/fake-devices.ts";
import { FakeHypervisor, type FakeStep } from "../src/testing/fake-hypervisor.ts";
import { createMachine, type MachineOptions } from "../src/machine/create-machine.ts";

/** What a bare machine is made of. */
export const registry: PluginRegistry = new PluginRegistry([debugConsole, powerPort]);

/** Steps that print `text`. */
export const print = (text: string): FakeStep[] =>
  Array.from(text, (char) => (_vm, { ports }) => {
    ports.write(0xe9, 1, char.charCodeAt(0));
    return undefined;
  });
/** A step that says `value` to the power port. */
export const power =
  (value: number): FakeStep =>
  (_vm, { ports }) => {
    ports.write(0xf4, 1, value);
    return undefined;
  };
export const POWER_OFF = 0;
export const RESET = 1;
export const PANIC = 2;
export const PAUSE = 3;

/** A machine with a console and a power port. */
export const bare: MachineConfig = {
  machine: "bare-1",
  memory: { mib: 1 },
  devices: [{ plugin: "debug-console" }, { plugin: "power-port" }],
};

/** Runs a guest to its end. */
export const run = async (
  program: readonly FakeStep[],
  options: Partial<MachineOptions> = {},
): Promise<{ reason: StopReason; text: string; hypervisor: FakeHypervisor }> => {
  const hypervisor = new FakeHypervisor(program);
  const console = new RingBufferBackend();
  const machine = await createMachine({ config: bare, hypervisor, registry, console, ...options });
  await machine.start();
  const reason = await machine.stopped;
  return { reason, text: console.text(), hypervisor };
};
