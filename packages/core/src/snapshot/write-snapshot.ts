import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { describeCpu } from "../cpu/configured-cpu.ts";
import { configAsData } from "./config-as-data.ts";
import {
  DIGEST_FILE,
  digestOf,
  MANIFEST_FILE,
  type ManifestV2,
  manifestHeader,
  PAGES_FILE,
  stringifyManifest,
} from "./manifest.ts";
import { memoryDisks } from "./memory-disks.ts";
import { writePages } from "./pages.ts";
import { makeDirectory } from "./snapshot-directory.ts";
import type { SnapshotSubject } from "./snapshot-subject.ts";

/** Writes a machine that stands still to a new directory; a failure leaves nothing. Throws `NB_SNAPSHOT`. */
export function writeSnapshot(subject: SnapshotSubject, directory: string): Promise<void> {
  return makeDirectory(directory, async (partial) => {
    const text = stringifyManifest(await saveParts(subject, partial));
    await writeWhole(join(partial, MANIFEST_FILE), (file) => file.writeFile(text));
    await writeWhole(join(partial, DIGEST_FILE), (file) => file.writeFile(digestOf(text)));
  });
}

async function saveParts(subject: SnapshotSubject, partial: string): Promise<ManifestV2> {
  const { vm, clock, devices, memory, keyStream } = subject;
  const slots: ManifestV2["memory"]["slots"][number][] = [];
  const disks: ManifestV2["disks"][number][] = [];
  await writeWhole(join(partial, PAGES_FILE), async (file) => {
    for (const { name, gpa, length, readOnly, bytes } of memory.slots)
      slots.push({ name, gpa, length, readOnly, runs: await writePages(bytes, file) });
    for (const { name, bytes } of memoryDisks(subject.hostEnds))
      disks.push({ name, length: bytes.length, runs: await writePages(bytes, file) });
  });
  const config = configAsData(subject.config);
  return {
    ...manifestHeader,
    machineType: subject.machineType,
    backend: subject.backend,
    ...(config !== undefined && { config }),
    cpu: describeCpu(subject.config.cpu),
    clock: { kind: clock.kind, nowNs: clock.nowNs(), epochMs: clock.epochMs },
    memory: { slots },
    disks,
    devices: devices.map(({ id, plugin, place, device }) => ({
      id,
      plugin,
      place,
      ...(device.save && { state: device.save() }),
    })),
    images: subject.images.save(),
    ...(keyStream && { randomBytes: keyStream.position }),
    irqchip: vm.irqchip.save(),
    ...(vm.schedule && { schedule: vm.schedule.save() }),
    vcpus: vm.vcpus.map((vcpu) => vcpu.getState()),
    ...(vm.cpuModel && { cpuModel: vm.cpuModel }),
  };
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
