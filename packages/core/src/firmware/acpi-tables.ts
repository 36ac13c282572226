import type { FirmwareEntry } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { dsdtTerms } from "./dsdt.ts";
import { buildFadt } from "./fadt.ts";
import { buildMadt } from "./madt.ts";
import { HEADER_SIZE, OEM, seal, setChecksum, setText, table } from "./table.ts";

export interface AcpiOptions {
  readonly firmware: readonly FirmwareEntry[];
  readonly vcpus: number;
  /** Where the tables will lie: they hold each other's addresses. A multiple of 64. */
  readonly gpa: number;
}

export interface AcpiTables {
  /** Everything, to be written at the address asked for. */
  readonly bytes: Uint8Array;
  readonly rsdpGpa: number;
  /** Each table by its signature, views of `bytes`. */
  readonly tables: ReadonlyMap<string, Uint8Array>;
}

/** Every table starts on such a boundary: FACS must (ACPI 6.4 §5.2.10), RSDP must on 16. */
const TABLE_ALIGNMENT = 64;
const RSDP_SIZE = 36;
const RSDP_V1_SIZE = 20;
const FACS_SIZE = 64;

/** RSDP, XSDT, FADT, FACS, MADT, MCFG (with a PCI root) and DSDT from what the devices said (ACPI 6.4 §5.2). */
export function buildAcpiTables({ firmware, vcpus, gpa }: AcpiOptions): AcpiTables {
  refuseAmbiguity(firmware);
  const area = new TableArea(gpa);
  const rsdpGpa = area.reserve("RSD PTR ", RSDP_SIZE);
  const facs = area.add("FACS", buildFacs());
  const dsdt = area.add("DSDT", buildDsdt(firmware, vcpus));
  const pointers = [
    area.add("FACP", buildFadt(firmware, facs, dsdt)),
    area.add("APIC", buildMadt(firmware, vcpus)),
  ];
  if (firmware.some(({ kind }) => kind === "pciRoot")) pointers.push(area.add("MCFG", buildMcfg(firmware)));
  const xsdt = area.add("XSDT", buildXsdt(pointers));
  area.fill("RSD PTR ", buildRsdp(xsdt));
  return { ...area.finish(), rsdpGpa };
}

/** Tables behind one another, with the addresses they get. */
class TableArea {
  readonly #gpa: number;
  readonly #parts = new Map<string, { readonly offset: number; bytes: Uint8Array }>();
  #end = 0;

  constructor(gpa: number) {
    this.#gpa = gpa;
  }

  reserve(signature: string, length: number): number {
    return this.add(signature, new Uint8Array(length));
  }

  add(signature: string, bytes: Uint8Array): number {
    const offset = Math.ceil(this.#end / TABLE_ALIGNMENT) * TABLE_ALIGNMENT;
    this.#parts.set(signature, { offset, bytes });
    this.#end = offset + bytes.length;
    return this.#gpa + offset;
  }

  fill(signature: string, bytes: Uint8Array): void {
    const part = this.#parts.get(signature);
    if (part !== undefined) part.bytes = bytes;
  }

  finish(): { readonly bytes: Uint8Array; readonly tables: ReadonlyMap<string, Uint8Array> } {
    const bytes = new Uint8Array(this.#end);
    const tables = new Map<string, Uint8Array>();
    for (const [signature, part] of this.#parts) {
      bytes.set(part.bytes, part.offset);
      tables.set(signature, bytes.subarray(part.offset, part.offset + part.bytes.length));
    }
    return { bytes, tables };
  }
}

/** §5.2.5.3, revision 2. */
function buildRsdp(xsdtGpa: number): Uint8Array {
  const data = new DataView(new ArrayBuffer(RSDP_SIZE));
  setText(data, 0, "RSD PTR ");
  setText(data, 9, OEM);
  data.setUint8(15, 2);
  data.setUint32(20, RSDP_SIZE, true);
  data.setBigUint64(24, BigInt(xsdtGpa), true);
  setChecksum(data, 8, RSDP_V1_SIZE);
  setChecksum(data, 32, RSDP_SIZE);
  return new Uint8Array(data.buffer);
}

function buildXsdt(pointers: readonly number[]): Uint8Array {
  const data = table("XSDT", 1, HEADER_SIZE + pointers.length * 8);
  for (const [index, gpa] of pointers.entries())
    data.setBigUint64(HEADER_SIZE + index * 8, BigInt(gpa), true);
  return seal(data);
}

/** §5.2.10. It has no description header and no checksum. */
function buildFacs(): Uint8Array {
  const data = new DataView(new ArrayBuffer(FACS_SIZE));
  setText(data, 0, "FACS");
  data.setUint32(4, FACS_SIZE, true);
  data.setUint8(32, 2);
  return new Uint8Array(data.buffer);
}

/** PCI Firmware 3.3 §4.1.2. */
function buildMcfg(firmware: readonly FirmwareEntry[]): Uint8Array {
  const roots = firmware.filter((entry) => entry.kind === "pciRoot");
  const RESERVED = 8;
  const ENTRY = 16;
  const data = table("MCFG", 1, HEADER_SIZE + RESERVED + roots.length * ENTRY);
  for (const [segment, root] of roots.entries()) {
    const offset = HEADER_SIZE + RESERVED + segment * ENTRY;
    data.setBigUint64(offset, BigInt(root.ecamGpa), true);
    data.setUint16(offset + 8, segment, true);
    data.setUint8(offset + 11, root.busCount - 1);
  }
  return seal(data);
}

/** Revision 2: integers of 64 bits. */
function buildDsdt(firmware: readonly FirmwareEntry[], vcpus: number): Uint8Array {
  const terms = dsdtTerms(firmware, vcpus);
  const data = table("DSDT", 2, HEADER_SIZE + terms.length);
  new Uint8Array(data.buffer).set(terms, HEADER_SIZE);
  return seal(data);
}

/** What the DSDT calls processors, PCI roots and their configuration spaces. */
const TABLES_OWN = /^(C[0-9A-F]{3}|PCI[0-9]|ECM[0-9])$/;

function refuseAmbiguity(firmware: readonly FirmwareEntry[]): void {
  const names = new Set<string>();
  for (const entry of firmware) {
    if (entry.kind !== "acpiDevice") continue;
    if (!/^[A-Z][A-Z0-9_]{3}$/.test(entry.name)) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `ACPI device name: expected four of A–Z, 0–9 and _, a letter first, found ${JSON.stringify(entry.name)}`,
      );
    }
    if (TABLES_OWN.test(entry.name)) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `ACPI device name: ${entry.name} is a processor's or a PCI root's: C000–CFFF, PCI0–PCI9 and ECM0–ECM9 are`,
      );
    }
    if (names.has(entry.name)) {
      throw new NorthbridgeError("NB_DUPLICATE_ID", `ACPI device ${entry.name}: expected one, found two`);
    }
    names.add(entry.name);
  }
  for (const kind of ["acpiPm", "bootArchitecture"] as const) {
    const count = firmware.filter((entry) => entry.kind === kind).length;
    if (count > 1)
      throw new NorthbridgeError("NB_DUPLICATE_ID", `${kind}: expected at most one, found ${count}`);
  }
}
