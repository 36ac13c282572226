/** What all virtio devices share. Names and numbers: Virtual I/O Device (VIRTIO) 1.3. */

/** Device status bits (§2.1). */
export const Status = {
  ACKNOWLEDGE: 0x01,
  DRIVER: 0x02,
  DRIVER_OK: 0x04,
  FEATURES_OK: 0x08,
  DEVICE_NEEDS_RESET: 0x40,
  FAILED: 0x80,
} as const;

/** Reserved feature bits, by number (§6). */
export const Feature = {
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
  SR_IOV: 37,
  NOTIFICATION_DATA: 38,
  NOTIF_CONFIG_DATA: 39,
  RING_RESET: 40,
} as const;

/** Device IDs (§5). */
export const DeviceId = {
  NET: 1,
  BLOCK: 2,
  CONSOLE: 3,
  RNG: 4,
  BALLOON: 5,
  SCSI: 8,
  INPUT: 18,
  VSOCK: 19,
  FS: 26,
  PMEM: 27,
} as const;

/** A descriptor of either ring: 16 bytes (§2.7.5, §2.8.13). */
export const Desc = {
  LENGTH: 16,
  ADDRESS: 0,
  LEN: 8,
  /** Split: flags and next. */
  FLAGS: 12,
  NEXT: 14,
  /** Packed: buffer id and flags. */
  PACKED_ID: 12,
  PACKED_FLAGS: 14,
} as const;

export const DescFlag = { NEXT: 0x1, WRITE: 0x2, INDIRECT: 0x4, AVAIL: 0x80, USED: 0x8000 } as const;

/** Split ring: flags and idx, then the ring, then the event index of EVENT_IDX (§2.7.6, §2.7.8). */
export const Ring = { FLAGS: 0, IDX: 2, RING: 4, AVAIL_ENTRY: 2, USED_ENTRY: 8 } as const;
export const AvailFlag = { NO_INTERRUPT: 0x1 } as const;
export const UsedFlag = { NO_NOTIFY: 0x1 } as const;

/** Event suppression of a packed ring (§2.8.14). */
export const EventFlag = { ENABLE: 0, DISABLE: 1, DESC: 2 } as const;

/** Largest queue (§2.7, §2.8). */
export const MAX_QUEUE_SIZE = 32_768;

/** Segments one request may have, whatever the driver says: what a host's vectored I/O takes. */
export const MAX_SEGMENTS = 1024;
