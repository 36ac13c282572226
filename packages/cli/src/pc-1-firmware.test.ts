import { createMachine } from "@northbridge/core";
import type { FirmwareEntry, MemoryMapEntry } from "@northbridge/core/contracts";
import { buildAcpiTables, e820Map } from "@northbridge/core";
import { describe, expect, it } from "vitest";
import { builtInHypervisor } from "./built-in-hypervisor.ts";
import { builtInRegistry } from "./built-in-registry.ts";

interface Described {
  readonly firmware: readonly FirmwareEntry[];
  readonly memoryMap: readonly MemoryMapEntry[];
}

/** What the devices of `pc-1` say of themselves, caught where a boot loader would use it. */
async function describePc1(): Promise<Described> {
  let described: Described | undefined;
  const machine = await createMachine({
    config: { machine: "pc-1", memory: { mib: 128 }, boot: {} },
    hypervisor: builtInHypervisor("soft"),
    registry: builtInRegistry(),
    bootLoader: (request) => {
      described = request;
      return Promise.reject(new Error("seen enough"));
    },
  });
  await expect(machine.start()).rejects.toThrow("seen enough");
  expect(described).toBeDefined();
  return described!;
}

describe("pc-1", () => {
  it("shows every guest the same firmware tables and memory map", async () => {
    const { firmware, memoryMap } = await describePc1();
    const { tables } = buildAcpiTables({ firmware, vcpus: 2, gpa: 0xe_0000 });
    const golden = {
      // A guest must never see its hardware change: what differs here is another machine type.
      e820: e820Map(memoryMap, firmware),
      tables: Object.fromEntries(
        [...tables].map(([signature, bytes]) => [
          signature,
          Buffer.from(bytes)
            .toString("hex")
            .match(/.{1,64}/g),
        ]),
      ),
    };
    await expect(`${JSON.stringify(golden, undefined, 2)}\n`).toMatchFileSnapshot(
      "golden/pc-1-firmware.json",
    );
  });
});
