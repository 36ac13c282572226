import type { FirmwareEntry } from "../contracts/index.ts";
import { littleEndian } from "./aml.ts";
import { HEADER_SIZE, seal, table } from "./table.ts";

/** Multiple APIC Description Table (ACPI 6.4 §5.2.12). */
const MADT_REVISION = 5;
const PCAT_COMPAT = 1 << 0;
const LOCAL_APIC_GPA = 0xfee0_0000;

const LOCAL_APIC = 0;
const IO_APIC = 1;
const INTERRUPT_SOURCE_OVERRIDE = 2;
const LOCAL_APIC_NMI = 4;
const LOCAL_X2APIC = 9;
const ENABLED = 1;
/** APIC IDs from here on need the x2APIC structure. */
const FIRST_X2APIC_ID = 255;

export function buildMadt(firmware: readonly FirmwareEntry[], vcpus: number): Uint8Array {
  const structures: number[] = [];
  for (let id = 0; id < vcpus; id++) {
    structures.push(
      ...(id < FIRST_X2APIC_ID
        ? [LOCAL_APIC, 8, id, id, ...littleEndian(ENABLED, 4)]
        : [LOCAL_X2APIC, 16, 0, 0, ...[id, ENABLED, id].flatMap((word) => littleEndian(word, 4))]),
    );
  }
  for (const entry of firmware) {
    if (entry.kind === "ioapic") {
      structures.push(
        IO_APIC,
        12,
        entry.id,
        0,
        ...littleEndian(entry.gpa, 4),
        ...littleEndian(entry.gsiBase, 4),
      );
    } else if (entry.kind === "irqOverride") {
      const ISA_BUS = 0;
      const polarity = entry.activeLow ? 0b11 : 0b01;
      const trigger = entry.level ? 0b11 : 0b01;
      const flags = littleEndian(polarity | (trigger << 2), 2);
      structures.push(
        INTERRUPT_SOURCE_OVERRIDE,
        10,
        ISA_BUS,
        entry.isaIrq,
        ...littleEndian(entry.gsi, 4),
        ...flags,
      );
    }
  }
  const ALL_PROCESSORS = 0xff;
  const LINT1 = 1;
  structures.push(LOCAL_APIC_NMI, 6, ALL_PROCESSORS, 0, 0, LINT1);

  const data = table("APIC", MADT_REVISION, HEADER_SIZE + 8 + structures.length);
  const boot = firmware.find((entry) => entry.kind === "bootArchitecture");
  data.setUint32(HEADER_SIZE, LOCAL_APIC_GPA, true);
  data.setUint32(HEADER_SIZE + 4, boot?.pcat === true ? PCAT_COMPAT : 0, true);
  new Uint8Array(data.buffer).set(structures, HEADER_SIZE + 8);
  return seal(data);
}
