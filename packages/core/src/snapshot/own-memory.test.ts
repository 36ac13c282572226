import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { DeviceEntry, MemorySlot } from "../contracts/index.ts";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { createMachine } from "../machine/create-machine.ts";
import type { Machine } from "../machine/machine.ts";
import { fakePlugin } from "../testing/fake-devices.ts";
import { FakeHypervisor } from "../testing/fake-hypervisor.ts";

const PAGE = 4096;
/** More than one checksum covers, and more than is cleared at once. */
const PAGES = 600;
const GPA = 2 ** 32;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-own-memory-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));
const snap = (): string => join(directory, "snap");

/** Pages that hold one byte each, the others zero: what a file holds that a device maps. */
type Content = Readonly<Record<number, number>>;
type Fault = "none" | "restore" | "reset";

async function make(content: Content, fault: Fault = "none") {
  let slot: MemorySlot | undefined;
  const boom = (): never => {
    throw new Error("boom");
  };
  const { spec } = fakePlugin("@fake/devices/owner", ({ ownMemory }) => {
    slot = ownMemory;
    for (const [page, byte] of Object.entries(content))
      ownMemory?.bytes.fill(byte, at(page), at(page) + PAGE);
    return {
      save: () => ({ version: 1 }),
      restore: fault === "none" ? () => undefined : boom,
      reset: fault === "reset" ? boom : () => undefined,
    };
  });
  const device: DeviceEntry = { spec: { ...spec, memoryBytes: () => PAGES * PAGE }, input: {} };
  const hypervisor = new FakeHypervisor();
  const machine = await createMachine({
    config: { machine: "bare-1", clock: "virtual", memory: { mib: 1 }, devices: [device] },
    hypervisor,
    registry: new PluginRegistry([]),
  });
  const held = (): Content =>
    Object.fromEntries(
      Array.from({ length: PAGES }, (_, page): [number, number] => {
        const bytes = slot?.bytes.subarray(page * PAGE, (page + 1) * PAGE);
        const [first = 0] = bytes ?? [];
        expect(bytes?.every((byte) => byte === first)).toBe(true);
        return [page, first];
      }).filter(([, byte]) => byte !== 0),
    );
  const written = (): (readonly [page: number, pages: number])[] =>
    (hypervisor.vms[0]?.written ?? []).map(([gpa, length]) => [(gpa - GPA) / PAGE, length / PAGE]);
  return { machine, held, written };
}
const at = (page: string): number => Number(page) * PAGE;

async function save(content: Content): Promise<void> {
  const { machine } = await make(content);
  await machine.start();
  await machine.save(snap());
  await machine.stop();
}

const restored = (machine: Machine): Promise<unknown> =>
  machine.restore(snap()).then(
    () => undefined,
    (error: unknown) => (error as Error).message.replace(`${snap()}: cannot restore: `, ""),
  );

it("is what was saved, zero pages included, and only what differs is written", async () => {
  await save({ 1: 0x41, 2: 0x42, 300: 0x43 });
  const { machine, held, written } = await make({ 0: 7, 2: 0x42, 300: 9, 301: 9, 599: 7 });
  expect(await restored(machine)).toBeUndefined();
  expect(held()).toEqual({ 1: 0x41, 2: 0x42, 300: 0x43 });
  expect(written()).toEqual([
    [0, 1],
    [1, 1],
    [300, 1],
    [301, 1],
    [599, 1],
  ]);
  await machine.stop();
});

it.each<[what: string, fault: Fault, message: string]>([
  ["a page is damaged", "none", `ram.pages is damaged: wrong checksum at byte ${2 * PAGE}`],
  ["a device refuses", "restore", "device owner: restore: boom"],
  ["what a device was told cannot be taken back", "reset", "device owner: reset: boom"],
])("is as it was where %s", async (_what, fault, message) => {
  await save({ 1: 0x41, 2: 0x42, 300: 0x43 });
  if (fault === "none") {
    const pages = await readFile(join(snap(), "ram.pages"));
    await writeFile(join(snap(), "ram.pages"), pages.fill(0, pages.length - 1));
  }
  const before = { 0: 0x41, 1: 0x41, 2: 9, 599: 7 };
  const { machine, held } = await make(before, fault);
  expect(await restored(machine)).toBe(message);
  expect(held()).toEqual(before);
  await machine.stop();
});

it("is one or the other, whatever either held", async () => {
  const pages = fc.oneof(fc.constantFrom(0, 255, 256, 257, 511, 512, PAGES - 1), fc.nat(PAGES - 1));
  const content = fc
    .array(fc.tuple(pages, fc.integer({ min: 1, max: 2 })), { maxLength: 8 })
    .map((all): Content => Object.fromEntries(all));
  await fc.assert(
    fc.asyncProperty(content, content, fc.boolean(), async (then, now, isRefused) => {
      await save(then);
      const { machine, held } = await make(now, isRefused ? "restore" : "none");
      await restored(machine);
      expect(held()).toEqual(isRefused ? now : then);
      await machine.stop();
      await rm(snap(), { recursive: true });
    }),
    { numRuns: 30 },
  );
});
