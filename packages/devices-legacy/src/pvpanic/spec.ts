/** pvpanic events (QEMU docs/specs/pvpanic): bits of its one port. */
export const Event = { PANICKED: 0x01, CRASH_LOADED: 0x02 } as const;
export const PORT = 0x505;
