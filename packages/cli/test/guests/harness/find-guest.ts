import { access, constants, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  appendToInitramfs,
  type CpioEntry,
  fetchLinuxGuest,
  hostProgram,
  type KernelFlavour,
} from "../../../src/guest/index.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..", "..", "..");

export interface GuestFiles {
  readonly kernel: string;
  readonly initrd: string;
}

/** A guest to boot, or why there is none. */
export type FoundGuest = { readonly files: GuestFiles } | { readonly missing: string };

/** The guest that `npm test` fetched for the example. Never downloads. */
export async function exampleGuest(): Promise<FoundGuest> {
  const directory = join(ROOT, "examples", "linux-serial", "guest");
  const files = { kernel: join(directory, "vmlinuz"), initrd: join(directory, "initrd.img") };
  for (const file of Object.values(files)) {
    if (!(await isReadable(file)))
      return { missing: "no guest: northbridge guest linux --out examples/linux-serial/guest" };
  }
  return { files };
}

/** Programs of the host that tests run in the guest, where they are installed. */
const PROGRAMS = ["sha256sum", "md5sum", "gzip", "xz", "bc", "mawk", "sort", "dd"];

/** A guest of this flavour, with more of its modules under another name, fetched once below `.northbridge/guests`. */
export async function stockGuest(
  flavour: KernelFlavour,
  more: { readonly name: string; readonly modules: readonly string[] } = { name: flavour, modules: [] },
): Promise<FoundGuest> {
  try {
    const out = join(ROOT, ".northbridge", "guests", more.name);
    const { modules } = more;
    const addBinaries = await installed(PROGRAMS);
    const { kernel, initrd } = await fetchLinuxGuest({ flavour, out, addBinaries, modules });
    return { files: { kernel, initrd } };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

/** Full paths of those programs that this host has. */
export async function installed(names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const path = join("/usr/bin", name);
    if (await isReadable(path)) found.push(path);
  }
  return found;
}

/** The guest's initramfs with more in it, written to `to`. */
export async function initrdWith(
  guest: GuestFiles,
  extra: readonly CpioEntry[],
  to: string,
): Promise<GuestFiles> {
  await writeFile(to, appendToInitramfs(await readFile(guest.initrd), extra));
  return { kernel: guest.kernel, initrd: to };
}

/** A dynamic program of the host with its libraries, at another path where one is given. */
export async function program(path: string, guestPath: string = path): Promise<CpioEntry[]> {
  const [first, ...libraries] = await hostProgram(path);
  return first === undefined ? libraries : [{ ...first, path: guestPath }, ...libraries];
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
