import { discardPages } from "@northbridge/linux";

/** Gives pages of guest memory back to a Linux host; elsewhere they are zeroed. */
export function reclaimPages(pages: Uint8Array): void {
  try {
    discardPages(pages);
  } catch {
    pages.fill(0);
  }
}
