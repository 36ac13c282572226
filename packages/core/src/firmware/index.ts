export type { AcpiOptions, AcpiTables } from "./acpi-tables.ts";
export { buildAcpiTables } from "./acpi-tables.ts";
