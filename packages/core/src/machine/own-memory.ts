import type { MemoryMapEntry } from "../contracts/index.ts";
import type { PlannedDevice } from "../composition/device-order.ts";
import { ConfigError } from "../config/config-error.ts";

const PAGE = 4096;
const GIB = 2 ** 30;
/** Below lie RAM, the PCI hole and the firmware: a guest that maps it in large pages meets nothing else. */
const FIRST_GPA = 4 * GIB;

/** Where one device's own memory lies. */
export interface OwnMemory {
  readonly device: PlannedDevice;
  readonly place: { readonly gpa: number; readonly length: number };
}

/**
 * Places the memory that devices bring above all RAM, each at a multiple of 1 GiB, in the order of the devices.
 * Throws `ConfigError` where a device wants what is no memory.
 */
export function placeOwnMemory(
  map: readonly MemoryMapEntry[],
  devices: readonly PlannedDevice[],
): readonly OwnMemory[] {
  const owned: OwnMemory[] = [];
  let next = Math.max(FIRST_GPA, ...map.map(({ gpa, length }) => gpa + length));
  for (const device of devices) {
    const length = device.spec.memoryBytes?.(device.config as never) ?? 0;
    if (length === 0) continue;
    if (!Number.isSafeInteger(length) || length < 0 || length % PAGE !== 0) {
      throw new ConfigError(
        "NB_CONFIG",
        device.where,
        `expected memory in pages of ${PAGE} bytes, found ${length} bytes`,
      );
    }
    const gpa = Math.ceil(next / GIB) * GIB;
    owned.push({ device, place: { gpa, length } });
    next = gpa + length;
  }
  return owned;
}
