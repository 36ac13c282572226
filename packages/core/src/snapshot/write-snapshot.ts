import { type FileHandle, mkdir, mkdtemp, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { crc32 } from "node:zlib";
import {
  type DeviceEntry,
  type MachineConfig,
  type MemorySlot,
  NorthbridgeError,
} from "../contracts/index.ts";
import { fileErrorReason } from "../host/file-error.ts";
import {
  MANIFEST_FILE,
  type ManifestV1,
  manifestHeader,
  MOST_PAGES_PER_RUN,
  PAGE_BYTES,
  type PageRun,
  RAM_FILE,
  stringifyManifest,
} from "./manifest.ts";
import type { SnapshotSubject } from "./snapshot-subject.ts";

/**
 * Writes a machine that stands still to a new directory. It is made beside its place and renamed when whole, so a
 * failure leaves nothing, not even directories above it. Throws `NB_SNAPSHOT`.
 */
export async function writeSnapshot(subject: SnapshotSubject, directory: string): Promise<void> {
  const target = resolve(directory);
  let partial: string | undefined;
  let firstMade: string | undefined;
  try {
    await expectUnused(directory);
    firstMade = await mkdir(dirname(target), { recursive: true });
    partial = await mkdtemp(join(dirname(target), `.${basename(target)}.partial-`));
    const manifest = await saveParts(subject, partial);
    await writeWhole(join(partial, MANIFEST_FILE), async (file) => {
      await file.writeFile(stringifyManifest(manifest));
    });
    await rename(partial, target);
  } catch (error) {
    if (partial !== undefined) await rm(partial, { recursive: true, force: true });
    if (firstMade !== undefined) await removeEmpty(dirname(target), firstMade);
    if (error instanceof NorthbridgeError && error.code === "NB_SNAPSHOT") throw error;
    throw cannotSave(directory, error);
  }
}

const cannotSave = (directory: string, cause: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_SNAPSHOT", `${directory}: cannot save the machine: ${fileErrorReason(cause)}`, {
    cause,
  });

/** Removes `directory` and those above it, up to `last`, until one is in use. */
async function removeEmpty(directory: string, last: string): Promise<void> {
  try {
    for (let path = directory; path.length >= last.length; path = dirname(path)) await rmdir(path);
  } catch {
    // Somebody else has put something there since.
  }
}

/** Throws `NB_SNAPSHOT` where a machine could not be saved to `directory` because something is in it. */
export async function expectUnused(directory: string): Promise<void> {
  let found: readonly string[];
  try {
    found = await readdir(resolve(directory));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw cannotSave(directory, error);
  }
  if (found.length > 0) {
    throw new NorthbridgeError(
      "NB_SNAPSHOT",
      `${directory}: cannot save the machine: expected a new or empty directory`,
    );
  }
}

async function saveParts(subject: SnapshotSubject, partial: string): Promise<ManifestV1> {
  const { vm, clock, devices, memory } = subject;
  const slots: ManifestV1["memory"]["slots"][number][] = [];
  await writeWhole(join(partial, RAM_FILE), async (file) => {
    for (const slot of memory.slots) {
      const { name, gpa, length, readOnly } = slot;
      slots.push({ name, gpa, length, readOnly, runs: await writePages(slot, file) });
    }
  });
  return {
    ...manifestHeader,
    machineType: subject.machineType,
    backend: subject.backend,
    config: configAsData(subject.config),
    clock: { kind: clock.kind, nowNs: clock.nowNs(), epochMs: clock.epochMs },
    memory: { slots },
    devices: devices.map(({ id, plugin, device }) => ({
      id,
      plugin,
      ...(device.save && { state: device.save() }),
    })),
    irqchip: vm.irqchip.save(),
    ...(vm.schedule && { schedule: vm.schedule.save() }),
    vcpus: vm.vcpus.map((vcpu) => vcpu.getState()),
    ...(vm.cpuModel && { cpuModel: vm.cpuModel }),
  };
}

/** The pages that are not all zero, one after the other. */
async function writePages(slot: MemorySlot, file: FileHandle): Promise<readonly PageRun[]> {
  const runs: PageRun[] = [];
  const zero = Buffer.alloc(PAGE_BYTES);
  const bytes = Buffer.from(slot.bytes.buffer, slot.bytes.byteOffset, slot.length);
  const pages = slot.length / PAGE_BYTES;
  const isZero = (page: number): boolean =>
    bytes.compare(zero, 0, PAGE_BYTES, page * PAGE_BYTES, (page + 1) * PAGE_BYTES) === 0;
  for (let first = 0; first < pages; ) {
    if (isZero(first)) {
      first++;
      continue;
    }
    let end = first + 1;
    while (end < pages && end - first < MOST_PAGES_PER_RUN && !isZero(end)) end++;
    const piece = bytes.subarray(first * PAGE_BYTES, end * PAGE_BYTES);
    runs.push([first, end - first, crc32(piece)]);
    for (let done = 0; done < piece.length; ) done += (await file.write(piece, done)).bytesWritten;
    first = end;
  }
  return runs;
}

async function writeWhole(path: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, "wx");
  try {
    await fill(file);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Entries become references by the names of their plugins, so that the config can be read without its module. */
function configAsData(config: MachineConfig): unknown {
  const asReference = ({ spec, id, input }: DeviceEntry): unknown => ({
    plugin: spec.name,
    ...(id !== undefined && { id }),
    ...(typeof input === "object" ? input : {}),
  });
  const devices = config.devices?.map((item) =>
    item && "spec" in item ? asReference(item as DeviceEntry) : item || null,
  );
  return { ...config, ...(devices && { devices }) };
}
