/** ACPI fixed hardware. Names: ACPI 6.4 §4.8. */

/** Byte offsets from the PM base. */
export const Offset = {
  PM1_STATUS: 0,
  PM1_ENABLE: 2,
  PM1_CONTROL: 4,
  TIMER: 8,
  GPE0_STATUS: 0x20,
  GPE0_ENABLE: 0x22,
} as const;
/** Ports occupied from the PM base. */
export const PORT_COUNT = 0x40;
/** General-purpose events: GPE0_BLK is 4 bytes long, half status, half enable. */
export const GPE_COUNT = 16;

/** PM1 status and enable (§4.8.3.1). */
export const Pm1 = {
  TIMER: 0x0001,
  BUS_MASTER: 0x0010,
  GLOBAL: 0x0020,
  POWER_BUTTON: 0x0100,
  SLEEP_BUTTON: 0x0200,
  RTC: 0x0400,
  WAKE: 0x8000,
  /** Bits with an enable. */
  ENABLE_MASK: 0x0721,
} as const;

/** PM1 control (§4.8.3.2). */
export const Control = {
  SCI_ENABLE: 0x0001,
  BUS_MASTER_RELOAD: 0x0002,
  SLEEP_TYPE_SHIFT: 10,
  SLEEP_TYPE: 0x1c00,
  SLEEP_ENABLE: 0x2000,
  /** GBL_RLS and SLP_EN read as zero. */
  STORED: 0x1c03,
} as const;

/** PM timer (§4.8.3.3). */
export const PM_TIMER_HZ = 3_579_545;

/** What the FADT says of the SMI command port (§5.2.9): Intel's usual place and values. */
export const Smi = { PORT: 0xb2, ACPI_ENABLE: 0xf1, ACPI_DISABLE: 0xf0 } as const;

/** SLP_TYP of `_S5_`. */
export const S5_SLEEP_TYPE = 5;
/** What the guest writes to port 0xCF9 to reset: RST_CPU and SYS_RST. */
export const RESET = { PORT: 0xcf9, VALUE: 0x06 } as const;
