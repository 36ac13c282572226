/** Registers and bits of the I/O APIC. Names: Intel 82093AA data sheet (290566-001), §3. */

/** Byte offsets in the 4 KiB page. */
export const Offset = { IOREGSEL: 0x00, IOWIN: 0x10 } as const;
/** Bytes of the register page. */
export const PAGE_LENGTH = 0x1000;

/** Registers behind IOWIN. IOREDTBL: two per pin, low half first. */
export const Reg = { ID: 0x00, VERSION: 0x01, ARBITRATION: 0x02, REDTBL: 0x10 } as const;

export const PINS = 24;
/** IOAPICVER: version 0x11, highest entry in bits 23:16. */
export const VERSION: number = 0x11 | ((PINS - 1) << 16);
export const ID = { SHIFT: 24, MASK: 0x0f } as const;

/** IOREDTBL bits 31:0. */
export const Redir = {
  VECTOR: 0xff,
  DELIVERY_MODE_SHIFT: 8,
  LOGICAL: 0x0800,
  DELIVERY_STATUS: 0x1000,
  ACTIVE_LOW: 0x2000,
  REMOTE_IRR: 0x4000,
  LEVEL: 0x8000,
  MASKED: 0x0001_0000,
  /** Bits that a write changes. */
  WRITABLE: 0x0001_afff,
} as const;

/** IOREDTBL bits 10:8. */
export const DeliveryMode = { FIXED: 0, LOWEST: 1, SMI: 2, NMI: 4, INIT: 5, EXTINT: 7 } as const;
/** Destination: bits 63:56 of the entry. */
export const DESTINATION_SHIFT = 24;
