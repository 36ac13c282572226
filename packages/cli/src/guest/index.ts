export { appendToInitramfs, type CpioEntry, writeCpio } from "@northbridge/sdk/host";
export { KERNEL_PACKAGES } from "./debian-packages.ts";
export type { KernelFlavour } from "./debian-packages.ts";
export { hostFiles, hostProgram } from "./host-files.ts";
export { buildInitramfs, READY_LINE } from "./initramfs.ts";
export type { LinuxGuest, LinuxGuestOptions } from "./linux-guest.ts";
export { fetchLinuxGuest } from "./linux-guest.ts";
export { registerGuest } from "./register-guest.ts";
