import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/core";
import { runHostCommand } from "./host-command.ts";

/** Flavours of Debian's stock kernel, and the packages that always depend on the newest of each. */
export const KERNEL_PACKAGES = { cloud: "linux-image-cloud-amd64", full: "linux-image-amd64" } as const;

export type KernelFlavour = keyof typeof KERNEL_PACKAGES;

const OWN_KERNEL = "or boot your own kernel: northbridge run MACHINE --kernel FILE --initrd FILE";

/**
 * Name of the kernel package that a flavour stands for today. Refreshes apt's package lists where they lack it and
 * this process may. Throws `NB_HOST`, saying what to do, where there is no apt or no list.
 */
export async function resolveKernelPackage(flavour: KernelFlavour, signal?: AbortSignal): Promise<string> {
  const meta = KERNEL_PACKAGES[flavour];
  const known = await findDependency(meta, signal);
  if (known !== undefined) return known;
  await refreshPackageLists(meta, signal);
  const refreshed = await findDependency(meta, signal);
  if (refreshed !== undefined) return refreshed;
  throw new NorthbridgeError(
    "NB_HOST",
    `guest linux: expected ${meta} in apt's package lists, found no such package: ` +
      `add Debian's archive to apt's sources, ${OWN_KERNEL}`,
  );
}

/** Downloads a package and unpacks it below `directory`. As resolving, it refreshes lists that have gone stale. */
export async function unpackPackage(name: string, directory: string, signal?: AbortSignal): Promise<void> {
  // The sandbox user of apt may not write where only this user may.
  const args = ["-o", "APT::Sandbox::User=root", "download", name];
  try {
    await runHostCommand("apt-get", args, { cwd: directory, signal });
  } catch (error) {
    if (!isRoot() || signal?.aborted === true) throw downloadFailed(name, error);
    await refreshPackageLists(name, signal);
    try {
      await runHostCommand("apt-get", args, { cwd: directory, signal });
    } catch (again) {
      throw downloadFailed(name, again);
    }
  }
  const file = (await readdir(directory)).find(
    (entry) => entry.startsWith(`${name}_`) && entry.endsWith(".deb"),
  );
  if (file === undefined) throw downloadFailed(name, new Error("apt-get left no .deb behind"));
  await runHostCommand("dpkg-deb", ["-x", join(directory, file), directory], { signal });
}

async function findDependency(meta: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  let listing: string;
  try {
    listing = await runHostCommand("apt-cache", ["depends", meta], { signal });
  } catch (error) {
    if (!(error instanceof Error) || !isMissingProgram(error)) return undefined;
    throw new NorthbridgeError(
      "NB_HOST",
      `guest linux: expected apt, of Debian, to fetch a kernel with, found none: use a host that has it, ${OWN_KERNEL}`,
      { cause: error },
    );
  }
  return /^\s*\|?Depends:\s*(linux-image-\S+)/m.exec(listing)?.[1];
}

async function refreshPackageLists(wanted: string, signal: AbortSignal | undefined): Promise<void> {
  if (!isRoot()) {
    throw new NorthbridgeError(
      "NB_HOST",
      `guest linux: expected ${wanted} in apt's package lists, found none and may not refresh them: ` +
        `run apt-get update as root, ${OWN_KERNEL}`,
    );
  }
  await runHostCommand("apt-get", ["update"], { signal });
}

function downloadFailed(name: string, cause: unknown): NorthbridgeError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new NorthbridgeError(
    "NB_HOST",
    `guest linux: cannot download ${name}: ${reason}; try again, ${OWN_KERNEL}`,
    {
      cause,
    },
  );
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

function isMissingProgram(error: Error): boolean {
  return error.cause instanceof Error && "code" in error.cause && error.cause.code === "ENOENT";
}
