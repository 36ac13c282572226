/** Registers and bits of the 16550A UART. Names: National PC16550D data sheet, §8.0. */

/** Byte offsets from the port base. */
export const Reg = { DATA: 0, IER: 1, IIR: 2, FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 } as const;

export const Ier = {
  RX_DATA: 0b0000_0001,
  THR_EMPTY: 0b0000_0010,
  LINE_STATUS: 0b0000_0100,
  MODEM_STATUS: 0b0000_1000,
  MASK: 0b0000_1111,
} as const;

/** Interrupt causes, highest priority first. */
export const Iir = {
  LINE_STATUS: 0x06,
  RX_DATA: 0x04,
  RX_TIMEOUT: 0x0c,
  THR_EMPTY: 0x02,
  MODEM_STATUS: 0x00,
  NONE: 0x01,
  FIFO_ENABLED: 0xc0,
} as const;
export const Fcr = { ENABLE: 0x01, CLEAR_RX: 0x02, CLEAR_TX: 0x04, TRIGGER_SHIFT: 6 } as const;
export const Lcr = { DLAB: 0x80 } as const;
export const Mcr = { DTR: 0x01, RTS: 0x02, OUT1: 0x04, OUT2: 0x08, LOOP: 0x10, MASK: 0x1f } as const;
export const Lsr = { DATA_READY: 0x01, OVERRUN: 0x02, THR_EMPTY: 0x20, IDLE: 0x40 } as const;
export const Msr = {
  DELTA_CTS: 0x01,
  DELTA_DSR: 0x02,
  TRAILING_EDGE_RI: 0x04,
  DELTA_DCD: 0x08,
  CTS: 0x10,
  DSR: 0x20,
  RI: 0x40,
  DCD: 0x80,
} as const;

/** Receive depth in characters. */
export const RX_DEPTH = { fifo: 16, holding: 1 } as const;
/** Characters that raise RX_DATA, by FCR bits 7:6 (§8.5). */
export const RX_TRIGGER: readonly [number, number, number, number] = [1, 4, 8, 14];
/** Divisor after power-on: 9600 baud. The data sheet leaves it undefined; a driver that divides by it must not trap. */
export const POWER_ON_DIVISOR = 12;
