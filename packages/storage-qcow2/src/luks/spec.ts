/** Numbers of LUKS1 (LUKS On-Disk Format Specification 1.2.3). */

/** "LUKS" 0xba 0xbe. */
export const LUKS_MAGIC: Uint8Array = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe);
export const LUKS_VERSION = 1;
export const HEADER_BYTES = 592;

/** Offsets of the fields of the partition header, `luks_phdr`. */
export const Phdr = {
  VERSION: 6,
  CIPHER_NAME: 8,
  CIPHER_MODE: 40,
  HASH_SPEC: 72,
  PAYLOAD_OFFSET: 104,
  KEY_BYTES: 108,
  MK_DIGEST: 112,
  MK_DIGEST_SALT: 132,
  MK_DIGEST_ITERATIONS: 164,
  UUID: 168,
  KEY_SLOTS: 208,
} as const;

/** Offsets of the fields of a key slot. */
export const KeySlot = {
  LENGTH: 48,
  ACTIVE: 0,
  ITERATIONS: 4,
  SALT: 8,
  KEY_MATERIAL_OFFSET: 40,
  STRIPES: 44,
} as const;

export const KEY_SLOTS = 8;
export const SLOT_ENABLED = 0x00ac71f3;
export const SLOT_DISABLED = 0x0000dead;
export const STRIPES = 4000;
export const SALT_BYTES = 32;
export const DIGEST_BYTES = 20;
/** Key slots begin at multiples of this many bytes. */
export const ALIGN_KEY_SLOTS = 4096;
export const SECTOR = 512;
export const UUID_BYTES = 40;
export const NAME_BYTES = 32;
