/** Registers and bits of the 8259A interrupt controller. Names: Intel 8259A data sheet (231468-003). */

/** Offsets of each chip's two ports: A0 low and high. */
export const Reg = { COMMAND: 0, DATA: 1 } as const;

export const Icw1 = { IC4: 0x01, SNGL: 0x02, LTIM: 0x08, INIT: 0x10 } as const;
export const Icw4 = { AEOI: 0x02, SFNM: 0x10 } as const;

/** OCW2 bits 7:5. */
export const Ocw2 = {
  ROTATE_AEOI_CLEAR: 0b000,
  EOI: 0b001,
  NOP: 0b010,
  SPECIFIC_EOI: 0b011,
  ROTATE_AEOI_SET: 0b100,
  ROTATE_EOI: 0b101,
  SET_PRIORITY: 0b110,
  ROTATE_SPECIFIC_EOI: 0b111,
} as const;

export const Ocw3 = { SELECT: 0x08, RIS: 0x01, RR: 0x02, POLL: 0x04, SMM: 0x20, ESMM: 0x40 } as const;

/** Poll byte: bit 7 says that bits 2:0 name a request. */
export const POLL_INTERRUPT = 0x80;
/** Master input that the slave hangs on. */
export const CASCADE = 2;
/** Inputs that may be level-triggered, by ELCR (Intel 82371AB §4.1.9): not 0, 1, 2, 8, 13. */
export const ELCR_MASK = { master: 0xf8, slave: 0xde } as const;
