import { readFile } from "node:fs/promises";
import { NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "../host/file-error.ts";

/** The whole of a file of the host that a guest boots from. Throws `NB_BOOT_IMAGE`. */
export async function readImage(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new NorthbridgeError("NB_BOOT_IMAGE", `${path}: cannot read the image: ${fileErrorReason(error)}`, {
      cause: error,
    });
  }
}
