import { mkdtempDisposable, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, type Machine } from "@northbridge/core";
import type { DeviceEntry } from "@northbridge/core/contracts";
import { expect, it } from "vitest";
import { builtInHypervisor } from "./built-in-hypervisor.ts";
import { builtInRegistry } from "./built-in-registry.ts";

const SIZE = 2 << 20;
const any = {
  "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ({ value }) },
} as const;

/** A machine whose guest never runs, with a file as persistent memory and a device that refuses what it was. */
function make(path: string, refuses = false): Promise<Machine> {
  const gadget: DeviceEntry = {
    spec: {
      name: "@x/devices/gadget",
      config: any,
      setup: ({ power }) => {
        power.pause("there is no guest");
        return {
          save: () => ({ version: 1 }),
          restore: () => {
            if (refuses) throw new Error("not this one");
          },
        };
      },
    },
    input: {},
  };
  const file = { kind: "file", path };
  const mmio = { gpa: 0xfeb0_0000, gsi: 5 };
  return createMachine({
    config: {
      machine: "bare-1",
      memory: { mib: 1 },
      devices: [{ plugin: "virtioPmem", file, mib: SIZE >> 20, mmio }, gadget],
    },
    hypervisor: builtInHypervisor("soft"),
    registry: builtInRegistry(),
  });
}

it("a file that is guest memory holds after a restore what was saved, and after a refusal what it held", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-pmem-"));
  const at = (name: string): string => join(directory.path, name);
  const [saved, other, third, snapshot] = [at("saved.img"), at("other.img"), at("third.img"), at("snapshot")];
  const then = Buffer.alloc(SIZE);
  then.fill("then", 0, 4096).fill("then", SIZE - 4096);
  const now = Buffer.alloc(SIZE, "now").fill(0, 4096, 3 * 4096);
  await writeFile(saved, then);
  await writeFile(other, now);
  const first = await make(saved);
  await first.start();
  expect(first.stats().devices["virtioPmem"]).toMatchObject({ mapped: 1 });
  await first.save(snapshot);
  await first.stop();

  const refusing = await make(other, true);
  await expect(refusing.restore(snapshot)).rejects.toThrow("not this one");
  expect((await readFile(other)).equals(now)).toBe(true);
  await refusing.stop();
  expect((await readFile(other)).equals(now)).toBe(true);

  await writeFile(third, now);
  const again = await make(third);
  await again.restore(snapshot);
  expect((await readFile(third)).equals(then)).toBe(true);
  await again.stop();
});
