import type { OpenImageOptions } from "../chain/open-image.ts";
import type { DiskImage } from "../disk-image.ts";
import type { Progress } from "../operations/copy-image.ts";

/** What every job takes. */
export interface JobOptions {
  readonly onProgress?: Progress;
  /** Ends the job early; the guest's disk stays whole. */
  readonly signal?: AbortSignal;
}

/** Opens images as those of a disk were opened. */
export type ImageOpener = (path: string, options: OpenImageOptions) => DiskImage;

/** Bytes that a job moves in one turn of the event loop. */
export const JOB_CHUNK = 65536;

/** Gives the guest a turn. Throws where the job is to end. */
export async function breathe(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}
