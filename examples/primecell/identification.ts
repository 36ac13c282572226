import type { RegisterSpec } from "@northbridge/sdk";

/** Peripheral and cell identification at the end of a PrimeCell's 4 KiB: one byte in each word. */
export const identification = (part: number, revision: number) =>
  ({
    PERIPH_ID: {
      offset: 0xfe0,
      count: 4,
      access: "ro",
      reset: [part & 0xff, 0x10 | (part >> 8), 0x04 | (revision << 4), 0x00],
    },
    PCELL_ID: { offset: 0xff0, count: 4, access: "ro", reset: [0x0d, 0xf0, 0x05, 0xb1] },
  }) as const satisfies Record<string, RegisterSpec>;
