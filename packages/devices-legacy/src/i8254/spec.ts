/** Registers and bits of the 8254 timer. Names: Intel 8254 data sheet (231164-005). */

/** Input clock of a PC's timer: 14.31818 MHz / 12. */
export const PIT_HZ = 1_193_182;

/** Byte offsets from port 0x40. */
export const Reg = { COUNTER0: 0, COUNTER1: 1, COUNTER2: 2, CONTROL: 3 } as const;

/** Control word bits 5:4. */
export const Rw = { LATCH: 0, LSB: 1, MSB: 2, LSB_THEN_MSB: 3 } as const;

/** Control word bits 3:1; 6 and 7 are 2 and 3. */
export const Mode = {
  TERMINAL_COUNT: 0,
  ONE_SHOT: 1,
  RATE_GENERATOR: 2,
  SQUARE_WAVE: 3,
  SOFTWARE_STROBE: 4,
  HARDWARE_STROBE: 5,
} as const;

/** Control word bits 7:6: the read-back command instead of a counter. */
export const READ_BACK = 3;
/** Read-back command: latches what is 0. */
export const ReadBack = { NO_STATUS: 0x10, NO_COUNT: 0x20 } as const;
/** Status byte; bits 5:0 repeat the control word. */
export const Status = { OUT: 0x80, NULL_COUNT: 0x40 } as const;

/** System control port B, 0x61 (IBM PC AT Technical Reference, "Port B"). */
export const PortB = {
  GATE2: 0x01,
  SPEAKER: 0x02,
  /** Parity and channel check disable: stored only. */
  CHECK_DISABLE: 0x0c,
  REFRESH: 0x10,
  OUT2: 0x20,
  WRITABLE: 0x0f,
} as const;
/** Half a period of the refresh request, bit 4 of port B. */
export const REFRESH_NS = 15_085;
