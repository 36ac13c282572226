/// <reference path="./webassembly.d.ts" />
import { readFile } from "node:fs/promises";
import { NorthbridgeError } from "@northbridge/sdk";

/** Beside the bundle in the published package; in `generated/` when running from source. */
const CANDIDATES = [
  new URL("./cpu.wasm", import.meta.url),
  new URL("../../generated/cpu.wasm", import.meta.url),
];

let compiled: Promise<WebAssembly.Module> | undefined;

async function load(): Promise<WebAssembly.Module> {
  for (const url of CANDIDATES) {
    const bytes = await readFile(url).catch(() => undefined);
    if (bytes !== undefined) return WebAssembly.compile(bytes);
  }
  throw new NorthbridgeError(
    "NB_BACKEND",
    `the software CPU is not built: found no ${CANDIDATES.map((url) => url.pathname).join(" nor ")}; ` +
      "run `pnpm --filter @northbridge/soft-backend build:wasm`",
  );
}

/** The compiled CPU module: once per process, for all machines. */
export function cpuModule(): Promise<WebAssembly.Module> {
  compiled ??= load();
  compiled.catch(() => {
    compiled = undefined;
  });
  return compiled;
}
