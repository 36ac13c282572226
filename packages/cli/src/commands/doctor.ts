import type { KvmFinding } from "@northbridge/kvm-backend";
import { spawnSync } from "node:child_process";
import { availableParallelism, freemem } from "node:os";
import { createMachine } from "@northbridge/core";
import type { MachineConfig } from "@northbridge/core/contracts";
import { ExitCode } from "../exit-codes.ts";
import type { CliHost } from "../host.ts";
import type { RegisterCommand } from "./register-command.ts";

interface Finding {
  readonly what: string;
  readonly state: "ok" | "missing" | "broken";
  readonly detail: string;
  /** What led to it, for who has to put it right: with `--json` only. */
  readonly evidence?: readonly string[];
}

export const registerDoctor: RegisterCommand = (program, host, exit) => {
  program
    .command("doctor")
    .description("say what this host can and cannot do for a machine")
    .option("--json", "print JSON")
    .action(async (options: { readonly json?: boolean }) => {
      const findings = [nodeVersion(), resources(), await softBackend(host), await kvm(), packageTools()];
      if (options.json === true) host.stdout.write(`${JSON.stringify(findings, undefined, 2)}\n`);
      else {
        for (const { what, state, detail } of findings) {
          host.stdout.write(`${state.padEnd(8)}${what.padEnd(14)}${detail}\n`);
        }
      }
      if (findings.some(({ state }) => state === "broken")) exit(ExitCode.HOST_FAILURE);
    });
};

const nodeVersion = (): Finding => ({
  what: "node",
  state: "ok",
  detail: `${process.version} on ${process.platform} ${process.arch}`,
});

const resources = (): Finding => ({
  what: "host",
  state: "ok",
  detail: `${availableParallelism()} CPUs, ${Math.floor(freemem() / 2 ** 20)} MiB of memory free`,
});

/** Makes the smallest machine: WebAssembly with shared memory has to work for that. */
async function softBackend(host: CliHost): Promise<Finding> {
  const what = "soft backend";
  try {
    const hypervisor = await host.hypervisor("soft");
    const config: MachineConfig = { machine: "bare-1", memory: { mib: 1 } };
    const machine = await createMachine({ config, hypervisor, registry: await host.registry(config) });
    await machine.stop();
    return { what, state: "ok", detail: "can run machines" };
  } catch (error) {
    return { what, state: "broken", detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Asks the device what it has, and a tiny guest what its instructions do. */
async function kvm(): Promise<Finding> {
  const what = "kvm backend";
  const { probeGuest, probeKvm } = await import("@northbridge/kvm-backend");
  const failed = (findings: readonly KvmFinding[]): readonly KvmFinding[] => findings.filter(({ ok }) => !ok);
  const words = (findings: readonly KvmFinding[]): readonly string[] =>
    findings.map((finding) => `${finding.what}: ${finding.detail}`);
  const device = probeKvm();
  if (!device.usable) return { what, state: "missing", detail: words(failed(device.findings)).join("; ") };
  const guest = await probeGuest();
  if (guest.usable) return { what, state: "ok", detail: "can run machines" };
  const lacks = failed(guest.findings);
  const names = lacks.map((finding) => finding.what).join(", ");
  return {
    what,
    state: "missing",
    detail: `opens, but cannot run kernels, which need in ring 0: ${names} (--json says more)`,
    evidence: words(lacks),
  };
}

function packageTools(): Finding {
  const what = "guest linux";
  const { status } = spawnSync("apt-get", ["--version"], { stdio: "ignore" });
  return status === 0
    ? { what, state: "ok", detail: "apt-get can fetch a kernel" }
    : { what, state: "missing", detail: "no apt-get: pass a kernel of your own with --kernel and --initrd" };
}
