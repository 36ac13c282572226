/** The ELF inside a bzImage, unpacked by core. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "../scripts/workspace.mjs";

export async function unpackKernel(file) {
  const core = await import(pathToFileURL(join(root, "packages", "core", "dist", "index.js")).href);
  const bytes = await readFile(file);
  if (!core.isBzImage(bytes)) return bytes;
  const elf = await core.unpackPayload(file, core.parseBzImage(file, bytes).payload);
  return elf.slice(0, Number.MAX_SAFE_INTEGER);
}
