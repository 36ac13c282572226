import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { type MachineConfig, type MemorySlot, missingFeatures, RestoreError } from "../contracts/index.ts";
import { describeCpu } from "../cpu/configured-cpu.ts";
import { fileErrorReason } from "../host/file-error.ts";
import {
  MANIFEST_FILE,
  type ManifestV1,
  MOST_PAGES_PER_RUN,
  PAGE_BYTES,
  parseManifest,
  RAM_FILE,
} from "./manifest.ts";
import type { SnapshotSubject } from "./snapshot-subject.ts";

/** The manifest of a snapshot directory. Throws `RestoreError`. */
export async function readManifest(directory: string): Promise<ManifestV1> {
  let text: string;
  try {
    text = await readFile(join(directory, MANIFEST_FILE), "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new RestoreError(directory, code === "ENOENT" ? `there is no ${MANIFEST_FILE} in it` : message);
  }
  return parseManifest(text, directory);
}

/**
 * Loads a snapshot into a machine of the same shape that has not started. Throws `RestoreError`, and the machine is as
 * before: what does not fit is found before anything is loaded, and what was loaded before a damaged page or a state
 * that a device refuses is taken back.
 */
export async function readSnapshot(subject: SnapshotSubject, directory: string): Promise<void> {
  const manifest = await readManifest(directory);
  checkShape(subject, manifest, directory);
  const file = await openPages(manifest, directory);
  const takeBack = rememberAsMade(subject, manifest);
  try {
    if (manifest.cpuModel !== undefined) subject.vm.setCpuModel?.(manifest.cpuModel);
    await loadPages(subject, manifest, file, directory);
    loadStates(subject, manifest);
  } catch (error) {
    await takeBack();
    if (error instanceof RestoreError) throw error;
    throw new RestoreError(directory, error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  } finally {
    await file.close();
  }
}

/** After the pages: a device may look at what it had under way in memory. */
function loadStates({ vm, clock, devices, backend }: SnapshotSubject, manifest: ManifestV1): void {
  clock.startAt(manifest.clock.nowNs, manifest.clock.epochMs);
  vm.irqchip.restore(manifest.irqchip);
  const states = new Map(manifest.devices.map(({ id, state }) => [id, state]));
  for (const { id, device } of devices) device.restore?.(states.get(id));
  if (manifest.backend === backend && manifest.schedule !== undefined)
    vm.schedule?.restore(manifest.schedule);
  manifest.vcpus.forEach((state, index) => vm.vcpus[index]?.setState(state));
}

/** Of a machine that has just been made: what makes it so again. */
function rememberAsMade(subject: SnapshotSubject, manifest: ManifestV1): () => Promise<void> {
  const { vm, clock, devices, memory } = subject;
  const [irqchip, schedule] = [vm.irqchip.save(), vm.schedule?.save()];
  const { epochMs } = clock;
  const nowNs = clock.nowNs();
  const { cpuModel } = vm;
  return async () => {
    for (const { device } of devices) await device.pause?.(); // as in a reset: no host operation outlives it
    for (const { device } of devices) device.reset?.();
    vm.irqchip.restore(irqchip);
    vm.schedule?.restore(schedule);
    if (cpuModel !== undefined) vm.setCpuModel?.(cpuModel);
    for (const vcpu of vm.vcpus) vcpu.reset();
    clock.startAt(nowNs, epochMs);
    for (const [index, slot] of memory.slots.entries()) {
      for (const [first, count] of manifest.memory.slots[index]?.runs ?? []) {
        slot.bytes.fill(0, first * PAGE_BYTES, (first + count) * PAGE_BYTES);
        vm.memoryWritten(slot.gpa + first * PAGE_BYTES, count * PAGE_BYTES);
      }
    }
  };
}

/** A guest goes on where the machine's processor has all that it was told; what else there is, it is not shown. */
function checkProcessor(subject: SnapshotSubject, manifest: ManifestV1, directory: string): void {
  const shown = manifest.cpuModel;
  const here = subject.vm.cpuModel;
  if (shown !== undefined && here !== undefined) {
    const missing = missingFeatures(shown, here);
    if (missing.length > 0) {
      throw new RestoreError(
        directory,
        `cpu: the saved guest knows its processor as ${shown.name}; this machine's (${subject.backend}, ${here.name}) lacks ${missing.join(", ")}`,
      );
    }
  }
  if (subject.backend !== manifest.backend) return; // models of other names
  const saved = manifest.config as Partial<MachineConfig> | undefined;
  const [ours, theirs] = [describeCpu(subject.config.cpu), describeCpu(saved?.cpu)];
  if (ours !== theirs)
    throw new RestoreError(directory, `cpu: this machine has ${ours}, the saved one ${theirs}`);
}

function checkShape(subject: SnapshotSubject, manifest: ManifestV1, directory: string): void {
  const expectSame = (what: string, ours: unknown, theirs: unknown): void => {
    if (ours !== theirs) {
      throw new RestoreError(
        directory,
        `${what}: this machine has ${String(ours)}, the saved one ${String(theirs)}`,
      );
    }
  };
  expectSame("machine", subject.machineType, manifest.machineType);
  expectSame("vcpus", subject.vm.vcpus.length, manifest.vcpus.length);
  expectSame("clock", subject.clock.kind, manifest.clock.kind);
  checkProcessor(subject, manifest, directory);
  const layout = (slots: readonly { gpa: number; length: number }[]): string =>
    slots.map(({ gpa, length }) => `${length / 1024} KiB at 0x${gpa.toString(16)}`).join(", ");
  expectSame("memory", layout(subject.memory.slots), layout(manifest.memory.slots));
  for (const { name, length, runs } of manifest.memory.slots) {
    if (runs.some(([first, count]) => count > MOST_PAGES_PER_RUN || (first + count) * PAGE_BYTES > length))
      throw new RestoreError(directory, `${MANIFEST_FILE} has pages beyond the end of ${name}`);
  }

  const states = new Map(manifest.devices.map((device) => [device.id, device]));
  for (const { id, plugin, device } of subject.devices) {
    const state = states.get(id);
    if (state === undefined)
      throw new RestoreError(
        directory,
        `this machine has a device ${id} (${plugin}), the saved one has none`,
      );
    expectSame(`device ${id}`, plugin, state.plugin);
    if (device.restore && state.state === undefined)
      throw new RestoreError(directory, `device ${id} (${plugin}) has no saved state`);
    if (!device.restore && state.state !== undefined)
      throw new RestoreError(directory, `device ${id} (${plugin}) cannot be restored`);
    states.delete(id);
  }
  const [missing] = states.values();
  if (missing !== undefined) {
    throw new RestoreError(
      directory,
      `the saved machine has a device ${missing.id} (${missing.plugin}), this one has none`,
    );
  }
}

/** The file of pages, which has as many as the manifest says. */
async function openPages(manifest: ManifestV1, directory: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await open(join(directory, RAM_FILE), "r");
  } catch (error) {
    throw new RestoreError(directory, `cannot open ${RAM_FILE}: ${fileErrorReason(error)}`);
  }
  const pages = manifest.memory.slots.flatMap(({ runs }) => runs).reduce((sum, [, count]) => sum + count, 0);
  const { size } = await file.stat();
  if (size !== pages * PAGE_BYTES) {
    await file.close();
    throw new RestoreError(directory, `expected ${pages * PAGE_BYTES} bytes in ${RAM_FILE}, found ${size}`);
  }
  return file;
}

async function loadPages(
  subject: SnapshotSubject,
  manifest: ManifestV1,
  file: FileHandle,
  directory: string,
): Promise<void> {
  let position = 0;
  for (const [index, slot] of subject.memory.slots.entries()) {
    for (const [first, count, checksum] of manifest.memory.slots[index]?.runs ?? []) {
      const offset = first * PAGE_BYTES;
      const length = count * PAGE_BYTES;
      await readInto(file, slot, offset, length, position, directory);
      if (crc32(slot.bytes.subarray(offset, offset + length)) !== checksum) {
        throw new RestoreError(directory, `${RAM_FILE} is damaged: wrong checksum at byte ${position}`);
      }
      subject.vm.memoryWritten(slot.gpa + offset, length);
      position += length;
    }
  }
}

async function readInto(
  file: FileHandle,
  slot: MemorySlot,
  offset: number,
  length: number,
  position: number,
  directory: string,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(slot.bytes, offset + done, length - done, position + done);
    if (bytesRead === 0) throw new RestoreError(directory, `${RAM_FILE} ends early`);
    done += bytesRead;
  }
}
