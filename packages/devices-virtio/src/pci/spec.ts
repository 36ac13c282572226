/** virtio over PCI. Names and numbers: virtio 1.3 §4.1. */

export const VENDOR_ID = 0x1af4;
/** Device ID of device type 0 (§4.1.2). */
export const DEVICE_ID_BASE = 0x1040;
/** Nontransitional devices: 1 or higher; transitional ones: 0. */
export const REVISION = 1;
/** Nontransitional devices: 0x40 or higher; transitional ones: the virtio device ID. */
export const SUBSYSTEM_ID = 0x1100;

/** PCI device IDs of transitional devices, by virtio device ID (§4.1.2). The other kinds have no legacy interface. */
export const TRANSITIONAL_ID: Readonly<Record<number, number>> = {
  1: 0x1000,
  2: 0x1001,
  3: 0x1003,
  4: 0x1005,
  5: 0x1002,
  8: 0x1004,
};

/** PCI class by virtio device ID; anything else is "other" (PCI Code and ID Assignment 1.11 §1). */
export const CLASS_CODE: Readonly<Record<number, number>> = {
  1: 0x02_00_00, // Ethernet
  2: 0x01_80_00, // mass storage, other
  3: 0x07_80_00, // communication, other
  8: 0x01_00_00, // SCSI
  18: 0x09_80_00, // input, other
  26: 0x01_80_00,
};
export const OTHER_CLASS = 0xff_00_00;

/** cfg_type of the vendor capabilities (§4.1.4). */
export const CapType = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, PCI_CFG: 5 } as const;

/** Offsets in struct virtio_pci_cap, counted from its third byte: ID and next pointer are the header's (§4.1.4). */
export const Cap = {
  LEN: 0,
  TYPE: 1,
  BAR: 2,
  ID: 3,
  OFFSET: 6,
  LENGTH: 10,
  BODY: 14,
  /** notify_off_multiplier, pci_cfg_data. */
  EXTRA: 14,
} as const;

/** struct virtio_pci_common_cfg (§4.1.4.3). */
export const Common = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_MSIX_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  DEVICE_STATUS: 0x14,
  CONFIG_GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_MSIX_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
  QUEUE_NOTIFY_DATA: 0x38,
  QUEUE_RESET: 0x3a,
  LENGTH: 0x40,
} as const;

/** Registers of the legacy interface (§4.1.4.10). The configuration follows, behind the vectors where MSI-X is enabled. */
export const Legacy = {
  DEVICE_FEATURES: 0x00,
  DRIVER_FEATURES: 0x04,
  QUEUE_PFN: 0x08,
  QUEUE_SIZE: 0x0c,
  QUEUE_SELECT: 0x0e,
  QUEUE_NOTIFY: 0x10,
  STATUS: 0x12,
  ISR: 0x13,
  CONFIG_VECTOR: 0x14,
  QUEUE_VECTOR: 0x16,
  CONFIG: 0x14,
  CONFIG_AFTER_VECTORS: 0x18,
} as const;
/** Legacy queues begin on a page, and so does their used ring (§2.7.2, §4.1.5.1.3.1). */
export const LEGACY_ALIGN = 4096;

export const NO_VECTOR = 0xffff;
/** §4.1.4.5. Reading clears. */
export const Isr = { QUEUE: 0x1, CONFIG: 0x2 } as const;

/** Where the structures lie: one page each in one BAR, MSI-X in another, the legacy interface in a third. */
export const Layout = {
  LEGACY_BAR: 0,
  BAR: 4,
  MSIX_BAR: 1,
  COMMON: 0x0000,
  ISR: 0x1000,
  DEVICE: 0x2000,
  NOTIFY: 0x3000,
  PAGE: 0x1000,
  LENGTH: 0x4000,
  NOTIFY_MULTIPLIER: 4,
} as const;
