export { bootLinux, BootedLinux, type LinuxOptions } from "./boot-linux.ts";
export { type ExecResult, LinuxGuest } from "./linux-guest.ts";
