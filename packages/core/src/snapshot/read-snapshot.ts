import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { type MemorySlot, RestoreError } from "../contracts/index.ts";
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
 * Loads a snapshot into a machine of the same shape that has not started. Throws `RestoreError`; what does not fit is
 * found before anything is loaded, damaged pages while they are.
 */
export async function readSnapshot(subject: SnapshotSubject, directory: string): Promise<void> {
  const manifest = await readManifest(directory);
  checkShape(subject, manifest, directory);
  await loadPages(subject, manifest, directory);

  subject.clock.startAt(manifest.clock.nowNs, manifest.clock.epochMs);
  subject.vm.irqchip.restore(manifest.irqchip);
  const states = new Map(manifest.devices.map(({ id, state }) => [id, state]));
  for (const { id, device } of subject.devices) device.restore?.(states.get(id));
  if (manifest.backend === subject.backend && manifest.schedule !== undefined)
    subject.vm.schedule?.restore(manifest.schedule);
  manifest.vcpus.forEach((state, index) => subject.vm.vcpus[index]?.setState(state));
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
  const layout = (slots: readonly { gpa: number; length: number }[]): string =>
    slots.map(({ gpa, length }) => `${length / 1024} KiB at 0x${gpa.toString(16)}`).join(", ");
  expectSame("memory", layout(subject.memory.slots), layout(manifest.memory.slots));

  const saved = new Map(manifest.devices.map((device) => [device.id, device]));
  for (const { id, plugin, device } of subject.devices) {
    const state = saved.get(id);
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
    saved.delete(id);
  }
  const [missing] = saved.values();
  if (missing !== undefined) {
    throw new RestoreError(
      directory,
      `the saved machine has a device ${missing.id} (${missing.plugin}), this one has none`,
    );
  }
}

async function loadPages(subject: SnapshotSubject, manifest: ManifestV1, directory: string): Promise<void> {
  const path = join(directory, RAM_FILE);
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    throw new RestoreError(
      directory,
      `cannot open ${RAM_FILE}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  try {
    const pages = manifest.memory.slots
      .flatMap(({ runs }) => runs)
      .reduce((sum, [, count]) => sum + count, 0);
    const { size } = await file.stat();
    if (size !== pages * PAGE_BYTES) {
      throw new RestoreError(directory, `expected ${pages * PAGE_BYTES} bytes in ${RAM_FILE}, found ${size}`);
    }
    let position = 0;
    for (const [index, slot] of subject.memory.slots.entries()) {
      const runs = manifest.memory.slots[index]?.runs ?? [];
      for (const [first, count, checksum] of runs) {
        const offset = first * PAGE_BYTES;
        const length = count * PAGE_BYTES;
        if (count > MOST_PAGES_PER_RUN || offset + length > slot.length) {
          throw new RestoreError(directory, `${MANIFEST_FILE} has pages beyond the end of ${slot.name}`);
        }
        await readInto(file, slot, offset, length, position, directory);
        if (crc32(slot.bytes.subarray(offset, offset + length)) !== checksum) {
          throw new RestoreError(directory, `${RAM_FILE} is damaged: wrong checksum at byte ${position}`);
        }
        subject.vm.memoryWritten(slot.gpa + offset, length);
        position += length;
      }
    }
  } finally {
    await file.close();
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
