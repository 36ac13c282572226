import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { BootConfig, FirmwareEntry } from "../src/index.ts";
import { loadBoot, memoryMap, SlottedGuestMemory } from "../src/index.ts";
import type { StartState } from "../src/index.ts";
import { pcFirmware } from "./pc-firmware.ts";
import { romFor } from "./qemu-rom.ts";

const QEMU = "qemu-system-x86_64";
const MIB = 256;
/** Where `northbridge guest linux` or `npm start` has put a guest. */
const guest =
  process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../../../examples/linux-serial/guest");
const kernel = join(guest, "vmlinuz");
const initrd = join(guest, "initrd.img");
const missing = ((): string | undefined => {
  if (process.env["NORTHBRIDGE_QEMU_TESTS"] === undefined) return "NORTHBRIDGE_QEMU_TESTS is not set";
  if (spawnSync(QEMU, ["--version"]).status !== 0) return `${QEMU} is not installed`;
  return existsSync(kernel) ? undefined : `there is no guest in ${guest}`;
})();

/** QEMU's q35 after the set-up that the ROM does, in our terms. */
const Q35: readonly FirmwareEntry[] = [
  ...pcFirmware({
    acpiPm: { resetValue: 0x0f, s5SleepType: 0 },
    ioapicId: 0,
    pciRoot: { ecamGpa: 0xb000_0000, busCount: 256, intxGsiBase: 20 },
  }),
  { kind: "acpiDevice", name: "RTC0", hid: "PNP0B00", uid: 0, ports: [{ base: 0x70, length: 2 }] },
];

/** Boots on QEMU's processor what our loader left in memory, and answers with the console and QEMU's exit code. */
async function bootUnderQemu(
  boot: BootConfig,
  firmware: readonly FirmwareEntry[],
  vcpus: number,
): Promise<{ readonly console: string; readonly code: number | null }> {
  const directory = await mkdtemp(join(tmpdir(), "northbridge-qemu-"));
  try {
    const ram = new Uint8Array(MIB * 2 ** 20);
    const map = memoryMap("pc", MIB);
    const slots = map.map(({ gpa, length, kind }) => ({
      name: kind,
      gpa,
      length,
      readOnly: false,
      bytes: ram.subarray(gpa, gpa + length),
    }));
    const state = await loadBoot({
      boot: { cmdline: "console=ttyS0 cryptomgr.notests panic=-1", ...boot, kernel, initrd },
      memory: new SlottedGuestMemory(slots, () => undefined),
      memoryMap: map,
      firmware,
      vcpus,
      readFile: (path) => readFile(path),
    });
    await writeFile(join(directory, "ram"), ram);
    await writeFile(join(directory, "rom"), romFor(state as StartState));
    return await runQemu(directory, vcpus);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function runQemu(directory: string, vcpus: number): Promise<{ console: string; code: number | null }> {
  const memory = `memory-backend-file,id=ram,size=${MIB}M,mem-path=${join(directory, "ram")},share=off`;
  const qemu = spawn(QEMU, [
    ...["-machine", "q35,smm=off,memory-backend=ram", "-accel", "tcg", "-object", memory],
    ...["-bios", join(directory, "rom"), "-smp", `${vcpus}`, "-nodefaults", "-display", "none"],
    ...["-serial", "stdio", "-no-reboot"],
  ]);
  let output = "";
  let ended = false;
  qemu.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString("latin1");
    // End of input at the shell's prompt.
    if (!ended && /ready[\s\S]*# /.test(output)) {
      ended = true;
      qemu.stdin.write("\x04");
    }
    // A machine without ACPI cannot switch itself off.
    if (output.includes("reboot: System halted")) qemu.kill();
  });
  qemu.stderr.on("data", (bytes: Buffer) => (output += bytes.toString("latin1")));
  return new Promise((resolve) => qemu.on("close", (code) => resolve({ console: output, code })));
}

describe.skipIf(missing !== undefined)(
  `boot on QEMU's processor${missing === undefined ? "" : ` (skipped: ${missing})`}`,
  () => {
    it.each(["auto", "bzimage", "pvh"] as const)(
      "reaches user space by the %s protocol and powers off through ACPI",
      async (protocol) => {
        const { console, code } = await bootUnderQemu({ protocol }, Q35, 2);
        expect(console).toContain("Northbridge guest ready");
        expect(console).toContain("smp: Brought up 1 node, 2 CPUs");
        expect(console).toContain("PCI: MMCONFIG for domain 0000 [bus 00-ff] at [mem 0xb0000000-0xbfffffff]");
        expect(console).toContain("00:01: ttyS0 at I/O 0x3f8 (irq = 4");
        expect(console).toContain("reboot: Power down");
        expect(console).not.toMatch(/ACPI (BIOS )?(Error|Warning)|ACPI: .*not found/i);
        expect(code).toBe(0);
      },
      120_000,
    );

    it("boots without firmware tables", async () => {
      const { console } = await bootUnderQemu({}, [], 1);
      expect(console).toContain("Northbridge guest ready");
      expect(console).toContain("ACPI BIOS Error (bug): A valid RSDP was not found");
    }, 120_000);
  },
);
