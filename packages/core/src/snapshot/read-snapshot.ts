import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type CpuModel, missingFeatures, RestoreError } from "../contracts/index.ts";
import { describeCpu } from "../cpu/configured-cpu.ts";
import { physicalAddressBits, vendorOf } from "../cpu/processor-identity.ts";
import { fileErrorReason } from "../host/file-error.ts";
import {
  DIGEST_FILE,
  MANIFEST_FILE,
  type ManifestV2,
  MOST_PAGES_PER_RUN,
  PAGE_BYTES,
  type PageRun,
  PAGES_FILE,
  parseManifest,
} from "./manifest.ts";
import { memoryDisks } from "./memory-disks.ts";
import { PageReader, rangeOf } from "./pages.ts";
import { ReplacedPages } from "./replaced-pages.ts";
import type { SnapshotSubject } from "./snapshot-subject.ts";

/** What devices have of memory of their own, in the places of the slots. Other memory is zeros as it was made. */
type OwnPages = readonly (ReplacedPages | undefined)[];

/** The manifest of a snapshot directory. Throws `RestoreError`. */
export async function readManifest(directory: string): Promise<ManifestV2> {
  const text = await readText(directory, MANIFEST_FILE);
  if (text === undefined) throw new RestoreError(directory, `there is no ${MANIFEST_FILE} in it`);
  return parseManifest(text, await readText(directory, DIGEST_FILE), directory);
}

async function readText(directory: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(directory, name), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new RestoreError(directory, `cannot read ${name}: ${fileErrorReason(error)}`);
  }
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
  const { memory, vm } = subject;
  const own = memory.slots.map((slot) =>
    slot.device === undefined ? undefined : new ReplacedPages(slot, vm),
  );
  const takeBack = rememberAsMade(subject, manifest, own);
  try {
    if (manifest.cpuModel !== undefined) vm.setCpuModel?.(manifest.cpuModel);
    await loadPages(subject, manifest, own, new PageReader(file, directory));
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
function loadStates(subject: SnapshotSubject, manifest: ManifestV2): void {
  const { vm, clock, devices, backend } = subject;
  clock.startAt(manifest.clock.nowNs, manifest.clock.epochMs);
  vm.irqchip.restore(manifest.irqchip);
  const states = new Map(manifest.devices.map(({ id, state }) => [id, state]));
  for (const { id, device } of devices) device.restore?.(states.get(id));
  if (manifest.backend === backend && manifest.schedule !== undefined)
    vm.schedule?.restore(manifest.schedule);
  if (manifest.randomBytes !== undefined) subject.keyStream?.moveTo(manifest.randomBytes);
  manifest.vcpus.forEach((state, index) => vm.vcpus[index]?.setState(state));
  subject.images.restore(manifest.images);
}

/** Of a machine that has just been made: what makes it so again. */
function rememberAsMade(subject: SnapshotSubject, manifest: ManifestV2, own: OwnPages): () => Promise<void> {
  const { vm, clock, devices, memory, keyStream } = subject;
  const drawn = keyStream?.position;
  const [irqchip, schedule] = [vm.irqchip.save(), vm.schedule?.save()];
  const { epochMs } = clock;
  const nowNs = clock.nowNs();
  const { cpuModel } = vm;
  return async () => {
    try {
      for (const { device } of devices) await device.pause?.(); // as in a reset: no host operation outlives it
      for (const { device } of devices) device.reset?.();
    } finally {
      for (const pages of own) pages?.putBack(); // a device that fails does not keep a file from being as it was
    }
    vm.irqchip.restore(irqchip);
    vm.schedule?.restore(schedule);
    if (cpuModel !== undefined) vm.setCpuModel?.(cpuModel);
    for (const vcpu of vm.vcpus) vcpu.reset();
    clock.startAt(nowNs, epochMs);
    if (drawn !== undefined) keyStream?.moveTo(drawn);
    for (const { bytes } of memoryDisks(subject.hostEnds)) bytes.fill(0);
    for (const [index, slot] of memory.slots.entries()) {
      if (own[index] !== undefined) continue;
      for (const [first, count] of manifest.memory.slots[index]?.runs ?? []) {
        slot.bytes.fill(0, first * PAGE_BYTES, (first + count) * PAGE_BYTES);
        vm.memoryWritten(slot.gpa + first * PAGE_BYTES, count * PAGE_BYTES);
      }
    }
  };
}

/**
 * Why a guest of one processor cannot go on on another. Of another vendor are other system calls, registers and flaws, on
 * which a guest has settled when it booted; an address that page tables cannot hold ends it when it is first used.
 */
function whatKeepsOut(shown: CpuModel, here: CpuModel): readonly string[] {
  const reasons: string[] = [];
  const [vendor, ours] = [vendorOf(shown), vendorOf(here)];
  if (vendor !== ours) reasons.push(`is of ${ours}, not of ${vendor}`);
  const [bits, least] = [physicalAddressBits(here), physicalAddressBits(shown)];
  if (bits < least) reasons.push(`has ${bits} physical address bits, not ${least}`);
  const missing = missingFeatures(shown, here);
  if (missing.length > 0) reasons.push(`lacks ${missing.join(", ")}`);
  return reasons;
}

/** A guest goes on where the machine's processor has all that it was told; what else there is, it is not shown. */
function checkProcessor(subject: SnapshotSubject, manifest: ManifestV2, directory: string): void {
  const shown = manifest.cpuModel;
  const here = subject.vm.cpuModel;
  if (shown !== undefined && here !== undefined) {
    const reasons = whatKeepsOut(shown, here);
    if (reasons.length > 0) {
      throw new RestoreError(
        directory,
        `cpu: the saved guest knows its processor as ${shown.name}; this machine's (${subject.backend}, ${here.name}) ${reasons.join("; ")}`,
      );
    }
  }
  if (subject.backend !== manifest.backend) return; // models of other names
  const [ours, theirs] = [describeCpu(subject.config.cpu), manifest.cpu];
  if (ours !== theirs)
    throw new RestoreError(directory, `cpu: this machine has ${ours}, the saved one ${theirs}`);
}

/** What has pages in the file, in their order. */
const pagedParts = ({
  memory,
  disks,
}: ManifestV2): readonly { name: string; length: number; runs: readonly PageRun[] }[] => [
  ...memory.slots,
  ...disks,
];

function checkShape(subject: SnapshotSubject, manifest: ManifestV2, directory: string): void {
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
  const held = (disks: readonly { name: string; length: number }[]): string =>
    disks.map(({ name, length }) => `${name} of ${length} bytes`).join(", ") || "none";
  expectSame(
    "disks in memory",
    held(memoryDisks(subject.hostEnds).map(({ name, bytes: { length } }) => ({ name, length }))),
    held(manifest.disks),
  );
  for (const { name, length, runs } of pagedParts(manifest)) {
    const pages = Math.ceil(length / PAGE_BYTES);
    if (runs.some(([first, count]) => count > MOST_PAGES_PER_RUN || first + count > pages))
      throw new RestoreError(directory, `${MANIFEST_FILE} has pages beyond the end of ${name}`);
  }

  const states = new Map(manifest.devices.map((device) => [device.id, device]));
  for (const { id, plugin, place, device } of subject.devices) {
    const state = states.get(id);
    if (state === undefined)
      throw new RestoreError(
        directory,
        `this machine has a device ${id} (${plugin}), the saved one has none`,
      );
    expectSame(`device ${id}`, plugin, state.plugin);
    const only = (some: readonly string[], others: readonly string[]): string =>
      some.find((each) => !others.includes(each)) ?? "nothing more";
    expectSame(`device ${id}`, only(place, state.place), only(state.place, place));
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
async function openPages(manifest: ManifestV2, directory: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await open(join(directory, PAGES_FILE), "r");
  } catch (error) {
    throw new RestoreError(directory, `cannot open ${PAGES_FILE}: ${fileErrorReason(error)}`);
  }
  const expected = pagedParts(manifest)
    .flatMap(({ runs, length }) => runs.map((run) => rangeOf(run, length).length))
    .reduce((sum, length) => sum + length, 0);
  const { size } = await file.stat();
  if (size !== expected) {
    await file.close();
    throw new RestoreError(directory, `expected ${expected} bytes in ${PAGES_FILE}, found ${size}`);
  }
  return file;
}

async function loadPages(
  { vm, memory, hostEnds }: SnapshotSubject,
  manifest: ManifestV2,
  own: OwnPages,
  pages: PageReader,
): Promise<void> {
  for (const [index, { bytes, gpa }] of memory.slots.entries()) {
    const runs = manifest.memory.slots[index]?.runs ?? [];
    const held = own[index];
    if (held !== undefined) await pages.replace(runs, held);
    else {
      await pages.read(runs, bytes, (offset, length) => {
        vm.memoryWritten(gpa + offset, length);
      });
    }
  }
  for (const [index, { bytes }] of memoryDisks(hostEnds).entries())
    await pages.read(manifest.disks[index]?.runs ?? [], bytes, () => undefined);
}
