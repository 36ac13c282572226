/** Input device. Names and numbers: virtio 1.3 §5.8, and Linux's input-event-codes.h, which it refers to. */

export const Queue = { EVENT: 0, STATUS: 1 } as const;

/** struct virtio_input_config (§5.8.4). */
export const Config = { SELECT: 0, SUBSEL: 1, SIZE: 2, DATA: 8, LENGTH: 136, MAX_DATA: 128 } as const;

export const Select = {
  ID_NAME: 0x01,
  ID_SERIAL: 0x02,
  ID_DEVIDS: 0x03,
  PROP_BITS: 0x10,
  EV_BITS: 0x11,
  ABS_INFO: 0x12,
} as const;

/** struct virtio_input_event (§5.8.6). */
export const Event = { TYPE: 0, CODE: 2, VALUE: 4, LENGTH: 8 } as const;

export const Ev = { SYN: 0, KEY: 1, REL: 2, ABS: 3, LED: 0x11, REP: 0x14 } as const;
export const SYN_REPORT = 0;
export const Rel = { X: 0, Y: 1, WHEEL: 8 } as const;
export const Abs = { X: 0, Y: 1 } as const;
export const LEDS = ["numLock", "capsLock", "scrollLock"] as const;

/** Largest coordinate of a tablet. */
export const MAX_ABS = 0x7fff;

/** struct virtio_input_devids: a virtual bus, and who is on it. */
export const IDS = { BUS_VIRTUAL: 6, VENDOR: 0x1af4, VERSION: 1 } as const;

/** Events that wait for the driver's buffers; whole reports beyond are lost. */
export const MAX_PENDING = 1024;
