import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { didYouMean, NorthbridgeError, unpackXz } from "@northbridge/core";
import type { CpioEntry } from "@northbridge/sdk/host";

/** What a kernel module says of itself in `.modinfo`. */
export interface ModuleInfo {
  readonly depends: readonly string[];
  readonly aliases: readonly string[];
}

/** Drivers of the devices that a machine can have, as far as the kernel has them as modules. */
export const DEVICE_DRIVERS: readonly string[] = [
  "virtio_pci",
  "virtio_mmio",
  "virtio_blk",
  "virtio_net",
  "virtio_console",
  "virtio_rng",
  "virtio_balloon",
  "virtio_scsi",
  "sd_mod",
  "sr_mod",
  "isofs",
  "virtio_input",
  "evdev",
  "virtio_pmem",
  "nd_pmem",
  "virtio_mem",
  "vmw_vsock_virtio_transport",
  "virtiofs",
  "fuse",
  "9p",
  "9pnet_virtio",
];

const LARGEST_MODULE = 256 * 2 ** 20;

interface Module {
  readonly name: string;
  /** Path below `lib/modules/RELEASE`, uncompressed. */
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly info: ModuleInfo;
}

/**
 * These modules of a kernel with all they need, below `/lib/modules`, with the `modules.dep` and
 * `modules.alias` that `modprobe` reads. The package does not have these: depmod makes them at installation.
 * @param root `lib/modules/RELEASE` on the host
 * @param wanted as far as the kernel has them
 * @param asked somebody counts on these: throws `NB_CONFIG` for one that the kernel neither has nor has built in
 */
export async function collectModules(
  root: string,
  wanted: readonly string[] = DEVICE_DRIVERS,
  asked: readonly string[] = [],
): Promise<CpioEntry[]> {
  const release = basename(root);
  const files = await listModules(root);
  await expectModules(asked, files, root);
  const collected = new Map<string, Module>();
  const visit = async (name: string): Promise<void> => {
    const file = files.get(name);
    // What the kernel has built in, or lacks, is nobody's mistake.
    if (file === undefined || collected.has(name)) return;
    const bytes = await readModule(file);
    const info = parseModuleInfo(bytes);
    const module = { name, path: relative(root, file).replace(/\.xz$/, ""), bytes, info };
    collected.set(name, module);
    for (const needed of info.depends) await visit(needed);
  };
  for (const name of [...wanted, ...asked]) await visit(underscored(name));

  const modules = [...collected.values()];
  const directory = `/lib/modules/${release}`;
  const text = (name: string, lines: readonly string[]): CpioEntry => ({
    kind: "file",
    path: `${directory}/${name}`,
    bytes: new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")),
  });
  return [
    ...modules.map(({ path, bytes }): CpioEntry => ({ kind: "file", path: `${directory}/${path}`, bytes })),
    text(
      "modules.dep",
      modules.map((module) => dependencyLine(module, collected)),
    ),
    text(
      "modules.alias",
      modules.flatMap(({ name, info }) => info.aliases.map((alias) => `alias ${alias} ${name}`)),
    ),
  ];
}

/** `path: needed…`, with what is needed first standing last, as depmod writes it. */
function dependencyLine(module: Module, all: ReadonlyMap<string, Module>): string {
  const order: string[] = [];
  const visit = (name: string): void => {
    const needed = all.get(name);
    if (needed === undefined || order.includes(needed.path)) return;
    for (const deeper of needed.info.depends) visit(deeper);
    order.push(needed.path);
  };
  for (const name of module.info.depends) visit(name);
  return [`${module.path}:`, ...order.reverse()].join(" ");
}

/** One spelling of a module's name. */
const underscored = (name: string): string => name.replaceAll("-", "_");

async function expectModules(
  asked: readonly string[],
  files: ReadonlyMap<string, string>,
  root: string,
): Promise<void> {
  if (asked.length === 0) return;
  // Paths, one a line (kbuild, Documentation/kbuild/kbuild.rst).
  const builtIn = await readFile(join(root, "modules.builtin"), "utf8").catch(() => "");
  const names = new Set([
    ...files.keys(),
    ...builtIn.split("\n").map((line) => underscored(basename(line.trim(), ".ko"))),
  ]);
  const missing = asked.find((name) => !names.has(underscored(name)));
  if (missing === undefined) return;
  const hint = didYouMean(underscored(missing), names);
  throw new NorthbridgeError(
    "NB_CONFIG",
    `guest linux: --module ${missing}: expected a module of the kernel ${basename(root)}, found none of that name${hint}`,
  );
}

/** Module name, with `_` for `-`, to file. */
async function listModules(root: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const match = /^(.+)\.ko(?:\.xz)?$/.exec(entry.name);
    if (match?.[1] === undefined || !entry.isFile()) continue;
    files.set(underscored(match[1]), join(entry.parentPath, entry.name));
  }
  return files;
}

async function readModule(file: string): Promise<Uint8Array> {
  const bytes = await readFile(file);
  if (!file.endsWith(".xz")) return bytes;
  return unpackXz(bytes, LARGEST_MODULE);
}

/** Reads the zero-terminated `key=value` strings of the `.modinfo` section of a 64-bit ELF object. */
export function parseModuleInfo(module: Uint8Array): ModuleInfo {
  const values = new TextDecoder("latin1").decode(findSection(module, ".modinfo")).split("\0");
  const of = (key: string): string[] =>
    values.filter((value) => value.startsWith(`${key}=`)).map((value) => value.slice(key.length + 1));
  return {
    depends: of("depends")
      .flatMap((list) => list.split(","))
      .filter((name) => name !== "")
      .map(underscored),
    aliases: of("alias"),
  };
}

/** Empty where the object has no such section. */
function findSection(elf: Uint8Array, wanted: string): Uint8Array {
  const data = new DataView(elf.buffer, elf.byteOffset, elf.length);
  const table = Number(data.getBigUint64(0x28, true));
  const entrySize = data.getUint16(0x3a, true);
  const count = data.getUint16(0x3c, true);
  const content = (index: number): Uint8Array => {
    const header = table + index * entrySize;
    const offset = Number(data.getBigUint64(header + 0x18, true));
    return elf.subarray(offset, offset + Number(data.getBigUint64(header + 0x20, true)));
  };
  const names = content(data.getUint16(0x3e, true));
  for (let index = 0; index < count; index++) {
    const start = data.getUint32(table + index * entrySize, true);
    const name = new TextDecoder("latin1").decode(names.subarray(start, names.indexOf(0, start)));
    if (name === wanted) return content(index);
  }
  return new Uint8Array();
}
