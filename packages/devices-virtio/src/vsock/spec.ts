/** Socket device. Names and numbers: virtio 1.3 §5.10. */

export const Feature = { STREAM: 0 } as const;

export const Queue = { RECEIVE: 0, TRANSMIT: 1, EVENT: 2 } as const;

/** struct virtio_vsock_config: the guest's CID, 64 bits (§5.10.4). */
export const CONFIG_LENGTH = 8;

/** struct virtio_vsock_hdr (§5.10.6). CIDs are of 64 bits; the upper halves are zero. */
export const Header = {
  SRC_CID: 0,
  DST_CID: 8,
  SRC_PORT: 16,
  DST_PORT: 20,
  LEN: 24,
  TYPE: 28,
  OP: 30,
  FLAGS: 32,
  BUF_ALLOC: 36,
  FWD_CNT: 40,
  LENGTH: 44,
} as const;

export const Op = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

export const TYPE_STREAM = 1;
export const Shutdown = { RECEIVE: 1, SEND: 2, BOTH: 3 } as const;

/** The transport has lost its connections: the driver reads the CID again (§5.10.6.7). */
export const EVENT_TRANSPORT_RESET = 0;
export const EVENT_LENGTH = 4;

/** The host's CID. Those below 3 are nobody's, as is the last one (§5.10.4). */
export const HOST_CID = 2;
export const FIRST_CID = 3;
export const LAST_CID = 0xffff_fffe;

/** Bytes a guest may have sent that its peer on the host has not taken. */
export const BUFFER = 0x4_0000;
/** Payload of one packet to the guest, at most. */
export const MAX_PAYLOAD = 0x1_0000;
/** Streams at a time; more are refused. */
export const MAX_CONNECTIONS = 1024;
/** Answers to packets of streams there are not that wait for a buffer of the guest's. */
export const MAX_RESETS = 256;
/** The host's ends of streams that it opens are numbered from here. */
export const FIRST_HOST_PORT = 0x4000_0000;
