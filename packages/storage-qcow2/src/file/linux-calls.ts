import * as linux from "@northbridge/linux";

/** The system calls of `packages/linux`, where this host has them: Linux on x86-64 with koffi's binary. */
export type LinuxCalls = typeof linux;

let found: LinuxCalls | undefined | "unknown" = "unknown";

/** What `node:fs` lacks (locks, holes), or `undefined` on hosts that do not have it. */
export function linuxCalls(): LinuxCalls | undefined {
  if (found === "unknown") {
    found = undefined;
    if (process.platform === "linux" && process.arch === "x64") {
      try {
        linux.errnoNumber();
        found = linux;
      } catch {
        // No koffi for this host: callers do without.
      }
    }
  }
  return found;
}
