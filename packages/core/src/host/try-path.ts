import { access, constants, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { whyNoSocketAt } from "@northbridge/linux";
import { NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "./file-error.ts";

/** Whether a socket can be made at `path`, but for another that is there: that may go. Throws `NB_HOST`. */
export async function tryListen(path: string): Promise<undefined> {
  const reason = whyNoSocketAt(path);
  if (reason !== undefined) throw cannot("listen", path, new Error(reason));
  await expectRoomBeside("listen", path);
}

/** Whether a file at `path` can be appended to, or made. Throws `NB_HOST`. */
export async function tryAppend(path: string): Promise<undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) await expectRoomBeside("open for writing", path);
  else if (found.isDirectory()) throw cannot("open for writing", path, new Error("it is a directory"));
  else {
    await access(path, constants.W_OK).catch((error: unknown) => {
      throw cannot("open for writing", path, error);
    });
  }
}

async function expectRoomBeside(what: string, path: string): Promise<void> {
  await access(dirname(path), constants.W_OK | constants.X_OK).catch((error: unknown) => {
    throw cannot(what, path, error);
  });
}

const cannot = (what: string, path: string, cause: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `${path}: cannot ${what}: ${fileErrorReason(cause)}`, { cause });
