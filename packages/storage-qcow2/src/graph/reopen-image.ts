import { dirname } from "node:path";
import type { DiskImage } from "../disk-image.ts";
import { imagesAbove } from "../operations/commit-image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { ImageOpener } from "./job.ts";

/**
 * Opens an image below the top anew, for writing, in the place of the one that was opened for reading.
 * @throws what opening throws; the chain is as it was then
 */
export function reopenForWriting(top: DiskImage, image: DiskImage, open: ImageOpener): DiskImage {
  const over = imagesAbove(top, image).at(-1);
  if (!(over instanceof Qcow2Image)) throw new Error("only a qcow2 image stands on another");
  const { path, format } = image;
  const allowedDirectories: string[] = [];
  for (let each: DiskImage | undefined = top; each !== undefined; each = each.backing) {
    allowedDirectories.push(dirname(each.path));
  }
  // Two open files of one image would lock each other out.
  image.closeNow();
  try {
    const reopened = open(path, { format, readOnly: false, allowedDirectories });
    over.replaceBacking(reopened);
    return reopened;
  } catch (error) {
    over.replaceBacking(open(path, { format, readOnly: true, allowedDirectories }));
    throw error;
  }
}
