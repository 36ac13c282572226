/** Configuration space of PCI functions. Names: PCI Local Bus 3.0, §6 and appendix D. */

/** Offsets of the type 0 header (§6.1). */
export const Reg = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_CODE: 0x09,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  /** First byte behind the header: capabilities go from here. */
  DEVICE_SPECIFIC: 0x40,
} as const;

export const CONFIG_LENGTH = 256;
export const BAR_COUNT = 6;

export const Command = {
  IO: 0x0001,
  MEMORY: 0x0002,
  MASTER: 0x0004,
  PARITY: 0x0040,
  SERR: 0x0100,
  INTX_DISABLE: 0x0400,
  WRITABLE: 0x0547,
} as const;
export const Status = { INTERRUPT: 0x0008, CAPABILITIES: 0x0010 } as const;
export const HeaderType = { NORMAL: 0x00, MULTI_FUNCTION: 0x80 } as const;
export const Bar = { IO: 0x1, MEMORY_64: 0x4, PREFETCHABLE: 0x8, IO_FLAGS: 0x3, MEMORY_FLAGS: 0xf } as const;

/** Capability IDs (appendix H). */
export const CapabilityId = { MSI: 0x05, VENDOR: 0x09, MSIX: 0x11 } as const;

/** MSI, 64-bit address, one message: offsets in the capability (§6.8.1). */
export const Msi = {
  CONTROL: 2,
  ADDRESS_LOW: 4,
  ADDRESS_HIGH: 8,
  DATA: 12,
  LENGTH: 14,
  ENABLE: 0x0001,
  ADDRESS_64: 0x0080,
} as const;

/** MSI-X: offsets in the capability and bits of its control word (§6.8.2). */
export const Msix = {
  CONTROL: 2,
  TABLE: 4,
  PBA: 8,
  LENGTH: 12,
  FUNCTION_MASK: 0x4000,
  ENABLE: 0x8000,
  ENTRY_LENGTH: 16,
  MAX_VECTORS: 2048,
  /** Vector control: bit 0 of an entry's last word. */
  MASKED: 0x1,
} as const;

/** Class codes: base class, subclass, interface. */
export const ClassCode = { HOST_BRIDGE: 0x06_00_00 } as const;
