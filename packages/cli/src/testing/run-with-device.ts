import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor, type FakeStep } from "@northbridge/core/testing";
import { builtInRegistry } from "../built-in-registry.ts";
import { CliHarness } from "./cli-harness.ts";

/** Where a virtio device of a machine without a PCI bus lies. */
export const mmio = { gpa: 0xfeb0_0000, gsi: 5 } as const;

export interface RunWithDevice {
  /** @defaultValue `"run"` */
  readonly command?: "run" | "validate";
  /** What is there before, in the machine's directory. It goes when what this gives is disposed of. */
  readonly prepare?: (directory: string) => Promise<AsyncDisposable | undefined>;
  /** @defaultValue `"bare-1"` */
  readonly machine?: string;
  /** What the guest does. @defaultValue nothing, for ever */
  readonly program?: readonly FakeStep[];
}

/** Runs or checks a machine with this device and no other, by a config file in a directory of its own. */
export async function runWithDevice(
  device: object,
  { command = "run", prepare, machine = "bare-1", program = [] }: RunWithDevice = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-device-"));
  await using _prepared = await prepare?.(directory.path);
  const file = join(directory.path, "machine.json");
  await writeFile(file, JSON.stringify({ machine, memory: { mib: 16 }, devices: [device] }));
  return await new CliHarness(new FakeHypervisor(program), { registry: builtInRegistry() }).run(
    command,
    file,
  );
}
