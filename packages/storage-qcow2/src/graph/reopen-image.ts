import { dirname } from "node:path";
import type { DiskImage } from "../disk-image.ts";
import { imagesAbove } from "../operations/commit-image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { ImageOpener } from "./job.ts";

/**
 * Opens an image below the top anew, for reading or for writing, in the place of the one that is open, which is closed.
 * @throws what opening throws; the chain is as it was then
 */
export function reopenImage(
  top: DiskImage,
  image: DiskImage,
  open: ImageOpener,
  readOnly: boolean,
): DiskImage {
  const over = imagesAbove(top, image).at(-1);
  if (!(over instanceof Qcow2Image)) throw new Error("only a qcow2 image stands on another");
  const { path, format } = image;
  const allowedDirectories: string[] = [];
  for (let each: DiskImage | undefined = top; each !== undefined; each = each.backing) {
    allowedDirectories.push(dirname(each.path));
  }
  image.handOver(!readOnly);
  let reopened: DiskImage;
  try {
    reopened = open(path, {
      format,
      readOnly,
      allowedDirectories,
      asBacking: true,
      isHandedOver: true,
      ...(image instanceof Qcow2Image ? { encryptedAs: image } : {}),
    });
  } catch (error) {
    image.takeBack();
    throw error;
  }
  over.replaceBacking(reopened);
  image.closeNow();
  return reopened;
}
