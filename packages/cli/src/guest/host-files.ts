import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/core";
import type { CpioEntry } from "@northbridge/sdk/host";
import { runHostCommand } from "./host-command.ts";

/** A file or a directory of the host under its path in the guest. Links are followed. Throws `NB_HOST`. */
export async function hostFiles(hostPath: string, guestPath: string): Promise<CpioEntry[]> {
  const info = await stat(hostPath).catch((cause: unknown) => {
    throw new NorthbridgeError("NB_HOST", `${hostPath}: expected a file for the guest, found none`, {
      cause,
    });
  });
  if (!info.isDirectory()) {
    const bytes = await readFile(hostPath);
    return [{ kind: "file", path: guestPath, mode: info.mode & 0o7777, bytes }];
  }
  const names = (await readdir(hostPath)).sort();
  const children = await Promise.all(
    names.map((name) => hostFiles(join(hostPath, name), `${guestPath}/${name}`)),
  );
  return [{ kind: "directory", path: guestPath, mode: info.mode & 0o7777 }, ...children.flat()];
}

/**
 * A program of the host with the shared libraries and the loader that `ldd` names, each at its host path.
 * Throws `NB_HOST` for what is no program of this host.
 */
export async function hostProgram(path: string): Promise<CpioEntry[]> {
  const program = await hostFiles(path, path);
  const needed = parseLdd(await runHostCommand("ldd", [await realpath(path)]).catch(staticallyLinked));
  const libraries = await Promise.all(needed.map((library) => hostFiles(library, library)));
  return [...program, ...libraries.flat()];
}

/** Absolute paths in the output of `ldd`: what stands right of an arrow, and the loader. Throws `NB_HOST` on a missing library. */
export function parseLdd(listing: string): string[] {
  const missing = /^\s*(\S+) => not found/m.exec(listing)?.[1];
  if (missing !== undefined) {
    throw new NorthbridgeError("NB_HOST", `${missing}: expected the library on this host, found none`);
  }
  return [...listing.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map(([, path = ""]) => path);
}

function staticallyLinked(error: unknown): string {
  if (error instanceof Error && error.message.includes("not a dynamic executable")) return "";
  throw error;
}
