/** Console device. Names and numbers: virtio 1.3 §5.3. */

export const Feature = { SIZE: 0, MULTIPORT: 1, EMERG_WRITE: 2 } as const;

/** struct virtio_console_config (§5.3.4). */
export const Config = { COLS: 0, ROWS: 2, MAX_NR_PORTS: 4, EMERG_WR: 8, LENGTH: 12 } as const;

export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;

/** Bytes of one transmit request that are written; a driver has no use for larger ones. */
export const MAX_BYTES = 0x10_0000;
