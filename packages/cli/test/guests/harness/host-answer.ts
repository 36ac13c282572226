import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";

/** Processor features that the guest's libraries choose functions by and x86-64-v2 lacks. */
const WITHOUT = ["AVX", "AVX2", "FMA", "FMA4", "AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "BMI1", "BMI2"];
const ENVIRONMENT = {
  PATH: "/usr/bin:/bin",
  LC_ALL: "C",
  GLIBC_TUNABLES: `glibc.cpu.hwcaps=${WITHOUT.map((name) => `-${name}`).join(",")}`,
};

const runFile = promisify(execFile);

/** What a shell command of the host writes, without space around it, by the code paths of a plain x86-64-v2. */
export async function hostAnswer(command: string): Promise<string> {
  const { stdout } = await runFile("/bin/sh", ["-c", command], { env: ENVIRONMENT, maxBuffer: 2 ** 26 });
  return stdout.trim();
}

/** The program that compares libm with the host's, built in `directory`; undefined where there is no C compiler. */
export function buildFloatProgram(directory: string): Promise<string | undefined> {
  return build("float", directory, ["-frounding-math", "-lm"]);
}

/** The program that speaks AF_VSOCK for a shell, built in `directory`; undefined where there is no C compiler. */
export function buildVsockProgram(directory: string): Promise<string | undefined> {
  return build("vsock", directory, []);
}

async function build(name: string, directory: string, flags: readonly string[]): Promise<string | undefined> {
  const path = join(directory, name);
  try {
    const source = join(import.meta.dirname, `${name}.c`);
    await runFile("gcc", ["-O1", "-o", path, source, ...flags]);
    await access(path, constants.X_OK);
    return path;
  } catch {
    return undefined;
  }
}
