/** Configuration access of a PC. Names: PCI Local Bus 3.0 §3.2.2.3.2, PCI Firmware 3.2 §4.1, Intel ICH9 §13.7. */

/** Ports from 0xCF8. */
export const Port = { CONFIG_ADDRESS: 0, RESET_CONTROL: 1, CONFIG_DATA: 4, COUNT: 8 } as const;
export const BASE = 0xcf8;

/** CONFIG_ADDRESS: bus 23:16, device 15:11, function 10:8, register 7:2. */
export const ConfigAddress = { ENABLE: 0x8000_0000, BUS: 0x00ff_0000, WRITABLE: 0x80ff_fffc } as const;

/** RST_CNT at 0xCF9: a rising RST_CPU resets, SYS_RST says how hard. */
export const ResetControl = { SYS_RST: 0x02, RST_CPU: 0x04, FULL_RST: 0x08, WRITABLE: 0x0e } as const;

/** Bytes of one bus in the ECAM window, and of one function. */
export const ECAM_BUS = 0x10_0000;
export const ECAM_FUNCTION = 0x1000;

/** Identity of the root's own function 00:00.0: QEMU's generic PCIe host bridge, which no driver quirks. */
export const HOST_BRIDGE = { vendorId: 0x1b36, deviceId: 0x0008, classCode: 0x06_00_00 } as const;
export const DEVICES = 32;
export const FUNCTIONS = 8;
