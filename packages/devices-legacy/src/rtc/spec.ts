/** Registers and bits of the MC146818 real-time clock. Names: Motorola MC146818 data sheet. */

export const Port = { INDEX: 0, DATA: 1, BASE: 0x70, COUNT: 2 } as const;
export const INDEX_MASK = 0x7f;
export const RAM_LENGTH = 128;

export const Reg = {
  SECONDS: 0x00,
  SECONDS_ALARM: 0x01,
  MINUTES: 0x02,
  MINUTES_ALARM: 0x03,
  HOURS: 0x04,
  HOURS_ALARM: 0x05,
  DAY_OF_WEEK: 0x06,
  DAY_OF_MONTH: 0x07,
  MONTH: 0x08,
  YEAR: 0x09,
  A: 0x0a,
  B: 0x0b,
  C: 0x0c,
  D: 0x0d,
  /** Where PCs keep the century; the FADT says so too. */
  CENTURY: 0x32,
} as const;

export const RegA = {
  UPDATE_IN_PROGRESS: 0x80,
  DIVIDER: 0x70,
  DIVIDER_32KHZ: 0x20,
  DIVIDER_RESET: 0x60,
  RATE: 0x0f,
} as const;
export const RegB = {
  SET: 0x80,
  PERIODIC: 0x40,
  ALARM: 0x20,
  UPDATE_ENDED: 0x10,
  SQUARE_WAVE: 0x08,
  BINARY: 0x04,
  HOUR_24: 0x02,
} as const;
/** Flags stand where register B has their enables. */
export const RegC = { IRQ: 0x80, FLAGS: 0x70 } as const;
export const RegD = { VALID_RAM_AND_TIME: 0x80 } as const;

/** Power-on: 32768 Hz crystal, 1024 Hz periodic rate; 24 hours, BCD. */
export const POWER_ON_A = 0x26;
export const POWER_ON_B = 0x02;

/** Afternoon, in 12-hour mode. */
export const PM = 0x80;
/** Alarm bytes from here match anything. */
export const DONT_CARE = 0xc0;
/** How long before an update UIP shows it: 244 µs. */
export const UPDATE_WARNING_NS = 244_000;
export const CRYSTAL_HZ = 32_768;
