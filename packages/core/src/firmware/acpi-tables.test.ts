import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { FirmwareEntry } from "../contracts/index.ts";
import { pcFirmware } from "../../test/pc-firmware.ts";
import { buildAcpiTables } from "./acpi-tables.ts";

const GPA = 0xe_0000;

/** A machine with one of everything. */
const FIRMWARE: readonly FirmwareEntry[] = [
  ...pcFirmware({
    acpiPm: { resetValue: 6, s5SleepType: 5 },
    ioapicId: 7,
    pciRoot: { ecamGpa: 0xe000_0000, busCount: 16, intxGsiBase: 16 },
  }),
  {
    kind: "acpiDevice",
    name: "VR00",
    hid: "LNRO0005",
    uid: 3,
    mmio: [{ gpa: 0xd000_0000, length: 0x200 }],
    irqs: [{ gsi: 20, level: true, activeLow: false, shared: true }],
  },
  {
    kind: "acpiDevice",
    name: "BIG0",
    hid: "ACME0001",
    uid: 300,
    ports: [{ base: 0x1000, length: 0x800 }],
    mmio: [{ gpa: 2 ** 40, length: 2 ** 33 }],
  },
];

const tables = (firmware: readonly FirmwareEntry[] = FIRMWARE, vcpus = 2): ReadonlyMap<string, Uint8Array> =>
  buildAcpiTables({ firmware, vcpus, gpa: GPA }).tables;
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const text = (bytes: Uint8Array, offset: number, length: number): string =>
  new TextDecoder("latin1").decode(bytes.subarray(offset, offset + length));

describe("buildAcpiTables", () => {
  it("leads from the RSDP through the XSDT to every table, all with right checksums", () => {
    const { bytes, rsdpGpa } = buildAcpiTables({ firmware: FIRMWARE, vcpus: 2, gpa: GPA });
    const at = (gpa: number, length: number): Uint8Array => bytes.subarray(gpa - GPA, gpa - GPA + length);
    const tableAt = (gpa: number): Uint8Array => at(gpa, view(at(gpa, 8)).getUint32(4, true));

    const rsdp = at(rsdpGpa, 36);
    expect(rsdpGpa % 16).toBe(0);
    expect(text(rsdp, 0, 8)).toBe("RSD PTR ");
    expect(rsdp[15]).toBe(2);
    expect([sum(rsdp.subarray(0, 20)), sum(rsdp)]).toEqual([0, 0]);

    const xsdt = tableAt(Number(view(rsdp).getBigUint64(24, true)));
    expect(sum(xsdt)).toBe(0);
    const pointers = Array.from({ length: (xsdt.length - 36) / 8 }, (_, index) =>
      Number(view(xsdt).getBigUint64(36 + index * 8, true)),
    );
    expect(pointers.map((gpa) => text(tableAt(gpa), 0, 4))).toEqual(["FACP", "APIC", "MCFG"]);
    expect(pointers.map((gpa) => sum(tableAt(gpa)))).toEqual([0, 0, 0]);

    const fadt = tableAt(pointers[0]!);
    const facs = view(fadt).getUint32(36, true);
    const dsdt = view(fadt).getUint32(40, true);
    expect(Number(view(fadt).getBigUint64(140, true))).toBe(dsdt);
    expect([text(tableAt(facs), 0, 4), facs % 64]).toEqual(["FACS", 0]);
    expect([text(tableAt(dsdt), 0, 4), sum(tableAt(dsdt))]).toEqual(["DSDT", 0]);
  });

  it("describes processors and interrupt controllers in the MADT", () => {
    const madt = tables().get("APIC")!;
    expect(view(madt).getUint32(36, true)).toBe(0xfee0_0000);
    expect(view(madt).getUint32(40, true)).toBe(1);
    expect([...madt.subarray(44)]).toEqual([
      ...[0, 8, 0, 0, 1, 0, 0, 0],
      ...[0, 8, 1, 1, 1, 0, 0, 0],
      ...[1, 12, 7, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0],
      // Conforms to neither bus default: active high is 01, edge 01, level 11.
      ...[2, 10, 0, 0, 2, 0, 0, 0, 0b0101, 0],
      ...[2, 10, 0, 9, 9, 0, 0, 0, 0b1101, 0],
      ...[4, 6, 0xff, 0, 0, 1],
    ]);
  });

  it("names APIC IDs from 255 on in x2APIC structures", () => {
    const madt = tables(FIRMWARE, 256).get("APIC")!;
    const last = 44 + 255 * 8;
    expect([...madt.subarray(last, last + 16)]).toEqual([
      9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 255, 0, 0, 0,
    ]);
  });

  it("describes configuration space in the MCFG, and has none without a PCI root", () => {
    const mcfg = tables().get("MCFG")!;
    expect([...mcfg.subarray(36)]).toEqual([
      ...[0, 0, 0, 0, 0, 0, 0, 0],
      ...[0x00, 0x00, 0x00, 0xe0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0, 0, 0],
    ]);
    expect(tables([]).has("MCFG")).toBe(false);
  });

  it("describes fixed hardware in the FADT", () => {
    const fadt = tables().get("FACP")!;
    const data = view(fadt);
    expect([fadt.length, fadt[8], fadt[131]]).toEqual([276, 6, 4]);
    expect(data.getUint16(46, true)).toBe(9);
    expect([56, 64, 76, 80].map((offset) => data.getUint32(offset, true))).toEqual([
      0x600, 0x604, 0x608, 0x620,
    ]);
    expect([...fadt.subarray(88, 93)]).toEqual([4, 2, 0, 4, 4]);
    // RESET_REG: system I/O, 8 bits, byte access; then RESET_VALUE.
    expect([...fadt.subarray(116, 129)]).toEqual([1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6]);
    expect(data.getUint32(112, true) & (1 << 10)).not.toBe(0);
    expect(data.getUint32(112, true) & (1 << 20)).toBe(0);
    expect(data.getUint16(109, true) & 0b11).toBe(0b11);
  });

  it("says hardware-reduced where there is no fixed hardware", () => {
    const flags = view(tables([]).get("FACP")!).getUint32(112, true);
    expect(flags & (1 << 20)).not.toBe(0);
    expect(flags & (1 << 10)).toBe(0);
  });

  it.each([
    ["two devices of one name", [FIRMWARE[6]!, FIRMWARE[6]!], "ACPI device COM1: expected one, found two"],
    ["two of the fixed hardware", [FIRMWARE[0]!, FIRMWARE[0]!], "acpiPm: expected at most one, found 2"],
  ] as const)("refuses %s", (_what, firmware, message) => {
    expect(() => tables(firmware)).toThrow(expect.objectContaining({ code: "NB_DUPLICATE_ID", message }));
  });

  it("refuses a name that ACPI has no room for", () => {
    const device: FirmwareEntry = { kind: "acpiDevice", name: "com-1", hid: "PNP0501", uid: 0 };
    expect(() => tables([device])).toThrow(
      'ACPI device name: expected four of A–Z, 0–9 and _, a letter first, found "com-1"',
    );
  });

  it.each(["C000", "C0FF", "PCI0", "ECM1", "_HID"])("refuses %s, which is not a device's to have", (name) => {
    expect(() => tables([{ kind: "acpiDevice", name, hid: "PNP0501", uid: 0 }])).toThrow(
      expect.objectContaining({ code: "NB_CONFIG", message: expect.stringContaining(name) }),
    );
  });

  it("stays as it is: guests see these tables", async () => {
    const golden = Object.fromEntries(
      [...tables()].map(([signature, bytes]) => [
        signature,
        Buffer.from(bytes)
          .toString("hex")
          .match(/.{1,64}/g),
      ]),
    );
    await expect(`${JSON.stringify(golden, undefined, 2)}\n`).toMatchFileSnapshot("acpi-tables.golden.json");
  });
});

const iaslMissing =
  spawnSync("iasl", ["-v"]).error === undefined ? undefined : "iasl (acpica-tools) is not installed";

describe.skipIf(iaslMissing !== undefined)(
  `the tables as ACPICA reads them${iaslMissing === undefined ? "" : ` (skipped: ${iaslMissing})`}`,
  () => {
    const disassemble = (firmware: readonly FirmwareEntry[], vcpus: number): Map<string, string> => {
      const directory = mkdtempSync(join(tmpdir(), "northbridge-acpi-"));
      try {
        const sources = new Map<string, string>();
        for (const [signature, bytes] of tables(firmware, vcpus)) {
          // Neither has a header of the common form for iasl to go by.
          if (signature === "FACS" || signature === "RSD PTR ") continue;
          const file = join(directory, signature);
          writeFileSync(`${file}.aml`, bytes);
          execFileSync("iasl", ["-d", `${file}.aml`], { stdio: "pipe" });
          sources.set(signature, readFileSync(`${file}.dsl`, "utf8"));
        }
        const compiled = execFileSync("iasl", ["-p", join(directory, "again"), join(directory, "DSDT.dsl")], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        });
        expect(compiled).toMatch(/Compilation successful\. 0 Errors, 0 Warnings/);
        return sources;
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    };

    it("finds nothing wrong, and the devices that were described", () => {
      const sources = disassemble(FIRMWARE, 2);
      for (const [signature, source] of sources) {
        expect(source, signature).not.toMatch(/incorrect checksum|invalid|error|unknown|bad length/i);
      }
      const dsdt = sources
        .get("DSDT")!
        .replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "")
        .replace(/\s+/g, " ");
      expect(dsdt).toContain('Name (_HID, "ACPI0007"');
      expect(dsdt).toContain('Name (_HID, EisaId ("PNP0501") )');
      expect(dsdt).toContain("IO (Decode16, 0x03F8,");
      expect(dsdt).toContain("IRQ (Edge, ActiveHigh, Exclusive, ) {4}");
      expect(dsdt).toContain('Name (_HID, "LNRO0005")');
      expect(dsdt).toContain("Memory32Fixed (ReadWrite, 0xD0000000,");
      expect(dsdt).toContain("Interrupt (ResourceConsumer, Level, ActiveHigh, Shared, ,, ) { 0x00000014, }");
      expect(dsdt).toContain("Package (0x80)");
      expect(sources.get("FACP")).toMatch(/FADT Minor Revision : 04/);
    });

    it("takes machines of one and of 64 processors, with nothing else", () => {
      expect(disassemble([], 1).get("DSDT")).toContain("Device (C000)");
      expect(disassemble([], 64).get("DSDT")).toContain("Device (C03F)");
    });
  },
);
