/** Keyboard controller of a PC AT. Names: Intel 8242 data sheet; IBM PC AT Technical Reference, "Keyboard Controller". */

export const Port = { DATA: 0x60, COMMAND: 0x64, SYSTEM_CONTROL_A: 0x92 } as const;

/** Status register, read at the command port. */
export const Status = { OUTPUT_FULL: 0x01, SYSTEM: 0x04, COMMAND: 0x08, UNLOCKED: 0x10 } as const;

/** Controller command byte, RAM location 0. */
export const Ctr = {
  KEYBOARD_INTERRUPT: 0x01,
  SYSTEM: 0x04,
  KEYBOARD_DISABLE: 0x10,
  AUX_DISABLE: 0x20,
  TRANSLATE: 0x40,
} as const;

/** Commands at the command port. READ_RAM and WRITE_RAM carry the location in bits 4:0. */
export const Command = {
  READ_RAM: 0x20,
  WRITE_RAM: 0x60,
  AUX_DISABLE: 0xa7,
  AUX_ENABLE: 0xa8,
  AUX_TEST: 0xa9,
  SELF_TEST: 0xaa,
  KEYBOARD_TEST: 0xab,
  KEYBOARD_DISABLE: 0xad,
  KEYBOARD_ENABLE: 0xae,
  READ_INPUT: 0xc0,
  READ_OUTPUT: 0xd0,
  WRITE_OUTPUT: 0xd1,
  WRITE_KEYBOARD_BUFFER: 0xd2,
  WRITE_AUX_BUFFER: 0xd3,
  WRITE_AUX: 0xd4,
  /** Pulses the output lines whose bits 3:0 are 0. */
  PULSE: 0xf0,
} as const;

export const SELF_TEST_PASSED = 0x55;
export const KEYBOARD_TEST_PASSED = 0x00;
/** There is no auxiliary port: its clock line is stuck low. */
export const AUX_TEST_FAILED = 0x01;
/** Input port: keyboard not inhibited. */
export const INPUT_PORT = 0x80;

/** Output port, and port 0x92 with its own bits. */
export const Output = { RESET_N: 0x01, A20: 0x02, KEYBOARD_FULL: 0x10 } as const;
export const SystemControlA = { FAST_RESET: 0x01, A20: 0x02 } as const;

/** Commands to the keyboard and its answers (IBM Enhanced Keyboard). */
export const Keyboard = {
  SET_LEDS: 0xed,
  ECHO: 0xee,
  SCAN_CODE_SET: 0xf0,
  IDENTIFY: 0xf2,
  SET_RATE: 0xf3,
  RESET: 0xff,
  ACK: 0xfa,
  RESEND: 0xfe,
  TEST_PASSED: 0xaa,
  ID: 0xab,
  ID_PLAIN: 0x83,
  ID_TRANSLATED: 0x41,
} as const;

/** Bytes that wait for the guest at most. */
export const QUEUE_LENGTH = 16;
