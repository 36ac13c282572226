import * as linux from "@northbridge/linux";

/** The system calls of `packages/linux`, where this host has them: Linux on x86-64 with koffi's binary. */
export type LinuxCalls = typeof linux;

/** What `node:fs` lacks (locks, holes), or `undefined` on hosts that do not have it. */
export const linuxCalls = (): LinuxCalls | undefined => (linux.hasSystemCalls() ? linux : undefined);
