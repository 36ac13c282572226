import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A directory for one test's files; gone with its scope. */
export const scratch = (): Promise<AsyncDisposable & { readonly path: string }> =>
  mkdtempDisposable(join(tmpdir(), "northbridge-guests-"));

/** The guest's kernel says less and does not test its ciphers: half of a boot's instructions. */
export const TUNED = "console=ttyS0 cryptomgr.notests";
/** What a user would write. */
export const DEFAULT = "console=ttyS0";

export interface LinuxMachine {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline?: string;
  readonly vcpus?: number;
  readonly mib?: number;
  readonly clock?: "realtime" | "virtual";
  readonly onReset?: "stop" | "restart";
  readonly cpu?: object;
  readonly devices?: readonly object[];
}

/** A config of a PC that boots Linux, as data. */
export const linuxConfig = (machine: LinuxMachine): object => ({
  name: "guest-test",
  machine: "pc-1",
  memory: { mib: machine.mib ?? 256 },
  vcpus: machine.vcpus ?? 1,
  ...(machine.cpu && { cpu: machine.cpu }),
  ...(machine.clock && { clock: machine.clock }),
  boot: { kernel: machine.kernel, initrd: machine.initrd, cmdline: machine.cmdline ?? TUNED },
  onReset: machine.onReset ?? "stop",
  ...(machine.devices && { devices: machine.devices }),
});

/** Writes a machine config into `directory` and returns its path. */
export async function machineFile(directory: string, config: object, name = "machine"): Promise<string> {
  const path = join(directory, `${name}.json`);
  await writeFile(path, JSON.stringify(config));
  return path;
}
