/**
 * Numbers of the vhost-user protocol, read from its specification (QEMU, docs/interop/vhost-user.rst) once more: what
 * the suite says does not come from the implementations that it judges.
 */
export const Request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  GET_CONFIG: 24,
  GET_INFLIGHT_FD: 31,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

/** Bits of the protocol features. */
export const Protocol = {
  MQ: 0,
  REPLY_ACK: 3,
  CONFIG: 9,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
} as const;

/** Bits of the features: virtio's own, and the one that says that there are protocol features. */
export const FeatureBit = { PROTOCOL_FEATURES: 30, VERSION_1: 32 } as const;

export const HEADER_BYTES = 12;
export const Flag = { VERSION_1: 0x1, VERSION_MASK: 0x3, REPLY: 0x4, NEED_REPLY: 0x8 } as const;
/** In the number of a ring, beside SET_VRING_CALL: no descriptor comes, the driver polls. */
export const NO_FD = 0x100;
