import type { BlockBackend } from "@northbridge/sdk";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";

/**
 * Gives an image on which a disk goes on the bitmaps of the one that it was on, with their bits: the next backup by one of
 * them copies all that was written since the last. Images that cannot have bitmaps get none.
 */
export function carryBitmaps(from: BlockBackend, to: BlockBackend): void {
  if (!(from instanceof Qcow2Image && to instanceof Qcow2Image) || to.header.version === 2) return;
  for (const { name, granularity, isEnabled, isInconsistent } of from.bitmaps.list()) {
    if (isInconsistent) continue;
    if (to.bitmaps.list().some((bitmap) => bitmap.name === name)) to.bitmaps.remove(name);
    to.bitmaps.add(name, granularity);
    to.bitmaps.merge(name, from.bitmaps.get(name));
    to.bitmaps.setEnabled(name, isEnabled);
  }
}
