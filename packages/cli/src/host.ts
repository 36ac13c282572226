import type { Hypervisor, MachineConfig } from "@northbridge/core/contracts";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { PluginRegistry } from "@northbridge/core";

/** What the commands use of this process: a test brings its own. */
export interface CliHost {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** The plugins, machine types and host ends that come with the command: at least those that `config` names. */
  registry(config?: MachineConfig): Promise<PluginRegistry>;
  /** The backend a machine asks for; `say` hears what `auto` came to, and why. */
  hypervisor(name: "auto" | "kvm" | "soft", say?: (line: string) => void): Hypervisor | Promise<Hypervisor>;
}

/** The exit code a command ends with, where it is not 0. */
export class CommandFailed extends NorthbridgeError {
  readonly exitCode: number;

  constructor(exitCode: number, message: string, options?: ErrorOptions) {
    super("NB_HOST", message, options);
    this.exitCode = exitCode;
  }
}
