/** virtio over MMIO, version 2. Names and numbers: virtio 1.3 §4.2. */

/** "virt", little-endian. */
export const MAGIC = 0x7472_6976;
export const VERSION = 2;
/** "NBVM". */
export const VENDOR_ID = 0x4d56_424e;

/** §4.2.2. */
export const Reg = {
  MAGIC_VALUE: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  QUEUE_SEL: 0x030,
  QUEUE_NUM_MAX: 0x034,
  QUEUE_NUM: 0x038,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC: 0x080,
  QUEUE_DRIVER: 0x090,
  QUEUE_DEVICE: 0x0a0,
  SHM_LEN_LOW: 0x0b0,
  SHM_BASE_HIGH: 0x0bc,
  QUEUE_RESET: 0x0c0,
  CONFIG_GENERATION: 0x0fc,
  CONFIG: 0x100,
} as const;

export const Interrupt = { QUEUE: 0x1, CONFIG: 0x2 } as const;

/** Bytes a device takes: registers and configuration space. */
export const LENGTH = 0x1000;

/** Where a machine with ACPI finds such devices. */
export const ACPI_HID = "LNRO0005";
