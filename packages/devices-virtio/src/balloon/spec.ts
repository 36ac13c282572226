/** Memory balloon. Names and numbers: virtio 1.3 §5.5. */

export const Feature = { MUST_TELL_HOST: 0, STATS_VQ: 1, DEFLATE_ON_OOM: 2, PAGE_REPORTING: 5 } as const;

/** struct virtio_balloon_config (§5.5.4). */
export const Config = { NUM_PAGES: 0, ACTUAL: 4, LENGTH: 8 } as const;

/**
 * The queue of free page hints is not there, and drivers number what follows differently: for §5.5.2 reports come on
 * queue 4, for Linux on the one behind statistics.
 */
export const Queue = { INFLATE: 0, DEFLATE: 1, STATS: 2, REPORTING: 3, REPORTING_BY_SPEC: 4 } as const;

/** Pages are numbered by 4 KiB, whatever the guest's size of page (§5.5.6). */
export const PAGE = 4096;
export const PAGES_PER_MIB: number = 256;

/** Largest balloon: as many pages as a field of 32 bits counts. */
export const MAX_MIB = 0xff_ffff;

/** Page numbers of one request that are looked at. */
export const MAX_PAGES = 4096;

/** Statistics: a 16-bit tag and a 64-bit value each (§5.5.6.3). */
export const STAT_LENGTH = 10;
export const STATS = [
  "swapIn",
  "swapOut",
  "majorFaults",
  "minorFaults",
  "freeMemory",
  "totalMemory",
  "availableMemory",
  "diskCaches",
  "hugetlbAllocations",
  "hugetlbFailures",
] as const;
