export { bootLinux, BootedLinux, type LinuxOptions } from "./boot-linux.ts";
export { appendToInitramfs, type CpioEntry, writeCpio } from "./cpio.ts";
export { QtestMachine, type QtestTime } from "./qtest-machine.ts";
export { type ExecOptions, type ExecResult, LinuxGuest } from "./linux-guest.ts";
