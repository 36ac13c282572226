import { loadBoot } from "../boot/index.ts";
import { SlottedGuestMemory } from "../memory/slotted-guest-memory.ts";
import type { MachinePlan } from "./plan-machine.ts";
import { readImage } from "./read-image.ts";

/**
 * Loads what a planned machine boots into memory that is forgotten at once, without the tables that its devices would
 * describe. Throws `NB_BOOT_IMAGE`, as the machine would when it starts.
 */
export async function tryBoot({ config, map, vcpus }: MachinePlan): Promise<void> {
  if (config.boot === undefined) return;
  const below4Gib = map.filter(({ gpa }) => gpa < 2 ** 32); // nothing is loaded above
  const slots = below4Gib.map(({ gpa, length, kind }) => ({
    name: kind,
    gpa,
    length,
    readOnly: false,
    bytes: new Uint8Array(length), // untouched pages cost nothing
  }));
  await loadBoot({
    boot: config.boot,
    memory: new SlottedGuestMemory(slots, () => undefined),
    memoryMap: map,
    firmware: [],
    vcpus,
    readFile: readImage,
  });
}
