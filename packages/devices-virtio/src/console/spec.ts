/** Console device. Names and numbers: virtio 1.3 §5.3. */

export const Feature = { SIZE: 0, MULTIPORT: 1, EMERG_WRITE: 2 } as const;

/** struct virtio_console_config (§5.3.4). */
export const Config = { COLS: 0, ROWS: 2, MAX_NR_PORTS: 4, EMERG_WR: 8, LENGTH: 12 } as const;

/** Queues of port 0, and those of control messages (§5.3.2). */
export const Queue = { RECEIVE: 0, TRANSMIT: 1, CONTROL_RECEIVE: 2, CONTROL_TRANSMIT: 3 } as const;

/** Receive queue of a port; its transmit queue is the next one (§5.3.2). */
export const receiveQueue = (port: number): number => (port === 0 ? Queue.RECEIVE : 2 * port + 2);

/** struct virtio_console_control (§5.3.6.2). */
export const Control = { ID: 0, EVENT: 4, VALUE: 6, LENGTH: 8 } as const;

/** Control events (§5.3.6.2). */
export const ControlEvent = {
  DEVICE_READY: 0,
  DEVICE_ADD: 1,
  DEVICE_REMOVE: 2,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const;

/**
 * struct virtio_console_resize behind a RESIZE message (§5.3.6.2). Drivers of Linux before 6.16 and its stable branches
 * of the time read the rows first.
 */
export const Resize = { COLS: 8, ROWS: 10, LENGTH: 12 } as const;

/** Bytes of one transmit request that are written; a driver has no use for larger ones. */
export const MAX_BYTES = 0x10_0000;

/** Ports of one device: each has two queues. */
export const MAX_PORTS = 31;

/** Longest name of a port, in characters. */
export const MAX_NAME = 64;
