import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { NorthbridgeError } from "@northbridge/core";
import type { CpioEntry } from "@northbridge/sdk/host";
import type { KernelFlavour } from "./debian-packages.ts";
import { resolveKernelPackage, unpackPackage } from "./debian-packages.ts";
import { runHostCommand } from "./host-command.ts";
import { hostFiles, hostProgram } from "./host-files.ts";
import { buildInitramfs } from "./initramfs.ts";
import { collectModules, DEVICE_DRIVERS } from "./kernel-modules.ts";

export interface LinuxGuestOptions {
  readonly flavour: KernelFlavour;
  /** Directory for `vmlinuz`, `initrd.img` and `guest.json`. @defaultValue `.northbridge/guest/FLAVOUR` */
  readonly out?: string | undefined;
  readonly add?: readonly { readonly host: string; readonly guest: string }[];
  /** Programs of the host that come with the shared libraries they need. */
  readonly addBinaries?: readonly string[];
  /** Modules of the kernel by name, beside the drivers of a machine's devices. */
  readonly modules?: readonly string[];
  /** Hears of each step of the work, in a few words. */
  readonly onStep?: (step: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface LinuxGuest {
  readonly kernel: string;
  readonly initrd: string;
  /** The kernel's package, such as `linux-image-6.1.0-9-cloud-amd64`. */
  readonly package: string;
  /** It was there already, made with the same options. */
  readonly cached: boolean;
}

const KERNEL = "vmlinuz";
const INITRD = "initrd.img";
const MANIFEST = "guest.json";
/** Raised whenever the contents of an initramfs change: older ones are made anew. */
const RECIPE = 3;

interface Manifest {
  readonly recipe: number;
  readonly flavour: KernelFlavour;
  readonly package: string;
  readonly add: readonly { readonly host: string; readonly guest: string }[];
  readonly addBinaries: readonly string[];
  readonly modules: readonly string[];
}

/**
 * Fetches a stock Debian kernel with the host's own apt and builds an initramfs of Debian's static busybox and the
 * kernel's drivers. What is there already, from the same options, stays. Throws `NB_HOST`; leaves nothing half-made.
 */
export async function fetchLinuxGuest(options: LinuxGuestOptions): Promise<LinuxGuest> {
  const { flavour, add = [], addBinaries = [], modules = [], onStep = () => undefined, signal } = options;
  const out = resolve(options.out ?? join(".northbridge", "guest", flavour));
  const present = await findGuest(out, { recipe: RECIPE, flavour, add, addBinaries, modules });
  if (present !== undefined) return { ...paths(out), package: present, cached: true };

  onStep("looking for the newest kernel");
  const extra = await collectExtra(add, addBinaries);
  const kernelPackage = await resolveKernelPackage(flavour, signal);
  const work = await mkdtemp(join(tmpdir(), "northbridge-guest-"));
  try {
    onStep(`fetching ${kernelPackage}`);
    await unpackPackage(kernelPackage, work, signal);
    onStep("fetching busybox-static");
    await unpackPackage("busybox-static", work, signal);
    onStep("building the initramfs");
    const initramfs = await assemble(work, extra, modules, signal);
    const kernel = join(work, "boot", await onlyEntry(join(work, "boot"), /^vmlinuz-/));
    const manifest: Manifest = { recipe: RECIPE, flavour, package: kernelPackage, add, addBinaries, modules };
    signal?.throwIfAborted();
    await publish(out, kernel, initramfs, manifest);
  } catch (cause) {
    if (signal?.aborted !== true) throw cause;
    throw new NorthbridgeError("NB_HOST", "guest linux: interrupted", { cause });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return { ...paths(out), package: kernelPackage, cached: false };
}

function paths(out: string): { readonly kernel: string; readonly initrd: string } {
  return { kernel: join(out, KERNEL), initrd: join(out, INITRD) };
}

/** The kernel package of a guest in `out` that these options would make again. */
async function findGuest(out: string, wanted: Omit<Manifest, "package">): Promise<string | undefined> {
  try {
    const names = await readdir(out);
    if (![KERNEL, INITRD, MANIFEST].every((name) => names.includes(name))) return undefined;
    const { package: kernelPackage, ...made } = JSON.parse(
      await readFile(join(out, MANIFEST), "utf8"),
    ) as Manifest;
    return JSON.stringify(made) === JSON.stringify(wanted) ? kernelPackage : undefined;
  } catch {
    // Not there, or not ours: make it.
    return undefined;
  }
}

async function collectExtra(
  add: readonly { readonly host: string; readonly guest: string }[],
  binaries: readonly string[],
): Promise<CpioEntry[]> {
  for (const path of [...add.map(({ guest }) => guest), ...binaries]) {
    if (isAbsolute(path)) continue;
    throw new NorthbridgeError("NB_CONFIG", `guest linux: expected an absolute path, found ${path}`);
  }
  const files = await Promise.all(add.map(({ host, guest }) => hostFiles(host, guest)));
  const programs = await Promise.all(binaries.map(hostProgram));
  return [...files.flat(), ...programs.flat()];
}

async function assemble(
  work: string,
  extra: readonly CpioEntry[],
  wanted: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const busybox = join(work, "bin", "busybox");
  const modules = join(work, "lib", "modules");
  const release = await onlyEntry(modules, /^\d/);
  return buildInitramfs({
    busybox: await readFile(busybox),
    applets: await listApplets(busybox, signal),
    modules: await collectModules(join(modules, release), DEVICE_DRIVERS, wanted),
    extra,
  });
}

/** None on a host that cannot run the guest's programs: the guest then makes the links itself. */
async function listApplets(busybox: string, signal: AbortSignal | undefined): Promise<string[]> {
  const listing = await runHostCommand(busybox, ["--list-full"], { signal }).catch(() => "");
  return listing
    .split("\n")
    .filter((path) => path !== "")
    .map((path) => `/${path}`);
}

async function onlyEntry(directory: string, pattern: RegExp): Promise<string> {
  const found = (await readdir(directory).catch((): string[] => [])).find((name) => pattern.test(name));
  if (found !== undefined) return found;
  throw new NorthbridgeError(
    "NB_HOST",
    `guest linux: expected ${directory.split("/").at(-1) ?? directory}/${pattern.source} in the package, found none`,
  );
}

/** Puts the files in place each by a rename, the manifest last: without it nothing counts as there. */
async function publish(
  out: string,
  kernel: string,
  initramfs: Uint8Array,
  manifest: Manifest,
): Promise<void> {
  const partial = (name: string): string => join(out, `.${name}.partial`);
  try {
    await mkdir(out, { recursive: true });
    await rm(join(out, MANIFEST), { force: true });
    await copyFile(kernel, partial(KERNEL));
    await writeFile(partial(INITRD), initramfs);
    await writeFile(partial(MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`);
    for (const name of [KERNEL, INITRD, MANIFEST]) await rename(partial(name), join(out, name));
  } catch (cause) {
    for (const name of [KERNEL, INITRD, MANIFEST])
      await rm(partial(name), { force: true }).catch(() => undefined);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NorthbridgeError("NB_HOST", `guest linux: cannot write to ${out}: ${reason}`, { cause });
  }
}
