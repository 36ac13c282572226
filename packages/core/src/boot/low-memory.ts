/**
 * Where a booting kernel's hand-over structures lie. All of it is RAM that the kernel reclaims or copies
 * before it allocates; nothing is in the first page, which belongs to the BIOS.
 */
export const LowMemory = {
  GDT: 0x1000,
  /** `hvm_start_info`, its module list and memory map. */
  PVH_START_INFO: 0x2000,
  BOOT_PARAMS: 0x7000,
  /** PML4, PDPT and four page directories. */
  PAGE_TABLES: 0x9000,
  CMDLINE: 0x2_0000,
  /** The range that all of it lies in. */
  START: 0x1000,
  END: 0x2_1000,
} as const;

/** Where the firmware tables begin: the range that systems search for the RSDP (ACPI 6.4 §5.2.5.1). */
export const ACPI_TABLES_GPA = 0xe_0000;
export const ACPI_TABLES_END = 0x10_0000;
