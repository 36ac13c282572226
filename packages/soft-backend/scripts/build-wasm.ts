/** Compiles the AssemblyScript core to `generated/cpu.wasm`. With `--if-newer`, only where a source is newer. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const ENTRY = join(ROOT, "assembly/index.ts");
const OUTPUT = join(ROOT, "generated/cpu.wasm");
const WASM_PAGE = 0x1_0000;
/** Guest RAM begins here (`src/cpu/layout.ts`): no smaller memory is of use. */
const INITIAL_PAGES = 0x280_0000 / WASM_PAGE;

const ARGUMENTS: readonly string[] = [
  ENTRY,
  "--outFile",
  OUTPUT,
  "-O3",
  "--noAssert",
  "--runtime",
  "stub",
  "--importMemory",
  "--sharedMemory",
  "--initialMemory",
  String(INITIAL_PAGES),
  "--maximumMemory",
  "65536",
  // Statics stay below the vCPU save areas at 0x20000.
  "--memoryBase",
  "4096",
  "--enable",
  "simd",
  "--enable",
  "threads",
];

/** Newest modification below `path`, in ms. */
function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Whether a source changed after the last build. */
export function isStale(): boolean {
  if (!existsSync(ENTRY)) return false;
  if (!existsSync(OUTPUT)) return true;
  const sources = [join(ROOT, "assembly"), join(ROOT, "src/cpu/layout.ts"), fileURLToPath(import.meta.url)];
  return Math.max(...sources.map(newest)) > statSync(OUTPUT).mtimeMs;
}

/** Builds, and throws with the compiler's messages where it fails. */
export function buildWasm(): void {
  mkdirSync(dirname(OUTPUT), { recursive: true });
  const manifest = findPackageJSON("assemblyscript", import.meta.url);
  if (manifest === undefined) throw new Error("the assemblyscript package is not installed");
  const asc = join(dirname(manifest), "bin/asc.js");
  const { status, stderr, stdout, error } = spawnSync(process.execPath, [asc, ...ARGUMENTS], {
    cwd: ROOT,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`asc failed:\n${stdout}${stderr}${error?.message ?? ""}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url) && (!process.argv.includes("--if-newer") || isStale()))
  buildWasm();
