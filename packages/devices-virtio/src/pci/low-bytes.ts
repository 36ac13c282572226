import type { IoWidth } from "@northbridge/sdk";

/** What a driver sees of a register that it reads less of than there is, which it must not (virtio 1.3 §4.1.3.1). */
export const lowBytes = (value: number, width: IoWidth): number =>
  width === 4 ? value : value & (width === 2 ? 0xffff : 0xff);
