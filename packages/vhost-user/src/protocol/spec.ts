/** Names and numbers of the vhost-user protocol (QEMU: docs/interop/vhost-user.rst). */

/** Messages of the front end. */
export const Request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

const names = new Map<number, string>(Object.entries(Request).map(([name, number]) => [number, name]));

/** `SET_MEM_TABLE`; the number where there is no such message. */
export const requestName = (request: number): string => names.get(request) ?? `message ${request}`;

/** Messages of the back end, on its own channel. */
export const BackendRequest = { CONFIG_CHANGE_MSG: 2 } as const;

/** Bits of the protocol feature mask. */
export const ProtocolFeature = {
  MQ: 0,
  LOG_SHMFD: 1,
  REPLY_ACK: 3,
  BACKEND_REQ: 5,
  CONFIG: 9,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
} as const;

/** Bits that vhost keeps among virtio's feature bits. */
export const VhostFeature = { LOG_ALL: 26, PROTOCOL_FEATURES: 30 } as const;

/** request, flags, size: 32 bits each. */
export const Header = { REQUEST: 0, FLAGS: 4, SIZE: 8, LENGTH: 12 } as const;
export const HeaderFlag = { VERSION: 0x1, VERSION_MASK: 0x3, REPLY: 0x4, NEED_REPLY: 0x8 } as const;

/** A memory region: 64 bits each. SET_MEM_TABLE has a count and padding in front, ADD_MEM_REG padding. */
export const Region = {
  GUEST_ADDRESS: 0,
  SIZE: 8,
  USER_ADDRESS: 16,
  MMAP_OFFSET: 24,
  LENGTH: 32,
  FIRST: 8,
} as const;

/** SET_VRING_ADDR. */
export const VringAddress = {
  INDEX: 0,
  FLAGS: 4,
  DESC: 8,
  USED: 16,
  AVAIL: 24,
  LOG: 32,
  LENGTH: 40,
} as const;

/** SET_VRING_KICK, CALL and ERR: the ring, and whether there is no descriptor. */
export const VringFd = { INDEX_MASK: 0xff, NO_FD: 0x100 } as const;

/** GET_CONFIG and SET_CONFIG, in front of the bytes. */
export const ConfigHeader = { OFFSET: 0, SIZE: 4, FLAGS: 8, LENGTH: 12, MIGRATION: 1 } as const;

/** GET_INFLIGHT_FD and SET_INFLIGHT_FD. Compilers pad the structure to 24 bytes, and some programs send it so. */
export const InflightDescription = {
  MMAP_SIZE: 0,
  MMAP_OFFSET: 8,
  NUM_QUEUES: 16,
  QUEUE_SIZE: 18,
  LENGTH: 20,
  PADDED_LENGTH: 24,
} as const;

/** Regions one SET_MEM_TABLE may have, and descriptors one message. */
export const MAX_TABLE_REGIONS = 8;
/** Regions there may be with CONFIGURE_MEM_SLOTS. */
export const MAX_MEM_SLOTS = 32;
/** Bytes of configuration space that there can be. */
export const MAX_CONFIG = 256;
/** Longest payload of any message: a SET_MEM_TABLE or a whole configuration space. */
export const MAX_PAYLOAD = 512;
export const LOG_PAGE = 4096;
