import type { Hypervisor, MachineConfig } from "@northbridge/core/contracts";
import type { CliHost } from "../host.ts";

/** The backend that a machine runs on: under virtual time `auto` is the software CPU, which alone has it. */
export async function hypervisorFor(
  { backend = "auto", clock }: MachineConfig,
  host: CliHost,
  say?: (line: string) => void,
): Promise<Hypervisor> {
  return await host.hypervisor(backend === "auto" && clock === "virtual" ? "soft" : backend, say);
}
