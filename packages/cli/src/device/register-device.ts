import { mkdir, readdir, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileErrorReason } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { registerFuzz } from "./register-fuzz.ts";
import { camelCase, deviceTemplate } from "./device-template.ts";

const NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

/** What the template imports and declares beside the device. */
const TAKEN: ReadonlySet<string> = new Set([
  ...[
    "bit",
    "definePlugin",
    "registerMap",
    "registers",
    "v",
    "defineMachine",
    "deviceConformance",
    "bootLinux",
  ],
  ...[
    "testBench",
    "deviceMatchers",
    "describe",
    "expect",
    "it",
    "existsSync",
    "builtInHypervisor",
    "builtInRegistry",
  ],
  // Directories and packages of the project.
  ...["node", "guest", "vitest", "typescript"],
]);

/** Words that no module can declare (ECMA-262 §12.7.2, of strict code). */
const RESERVED: ReadonlySet<string> = new Set(
  (
    "await break case catch class const continue debugger default delete do else enum export extends false finally for " +
    "function if import in instanceof new null return super switch this throw true try typeof var void while with " +
    "yield let static implements interface package private protected public arguments eval undefined"
  ).split(" "),
);

export const registerDevice: RegisterCommand = (program, host) => {
  const device = program.command("device").description("devices of one's own");
  device
    .command("new")
    .description("make a project with a device, its tests and a machine")
    .argument("<NAME>", "of the directory to make; its last part names the device, as in my-device")
    .option(
      "--packages <dir>",
      "depend on the packages in this directory, as `pnpm check:packages` of a checkout leaves them in .northbridge/packed (default: the registry's)",
    )
    .action(async (directory: string, options: { readonly packages?: string }) => {
      const name = basename(directory);
      if (!NAME.test(name)) {
        throw new NorthbridgeError(
          "NB_CONFIG",
          `device new: expected a name of lower-case letters, digits and single dashes between them that begins with a letter, found ${name || "none"}`,
        );
      }
      if (RESERVED.has(camelCase(name)) || TAKEN.has(camelCase(name))) {
        throw new NorthbridgeError(
          "NB_CONFIG",
          `device new: expected a name that is no word of TypeScript or of the project itself, found ${name}; ${name}-device would do`,
        );
      }
      const files = deviceTemplate(name, await packedPackages(options.packages));
      await makeDirectory(directory);
      try {
        for (const [path, content] of Object.entries(files)) await writeFile(join(directory, path), content);
      } catch (error) {
        throw cannotMake(directory, error);
      }
      host.stdout.write(`${directory}: npm install, then npm test\n`);
    });
  registerFuzz(device, host);
};

async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory);
  } catch (error) {
    const isTaken = error instanceof Error && "code" in error && error.code === "EEXIST";
    throw isTaken
      ? new NorthbridgeError("NB_CONFIG", `device new: ${directory} is there already`)
      : cannotMake(directory, error);
  }
}

const cannotMake = (directory: string, cause: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `${directory}: cannot make the project: ${fileErrorReason(cause)}`, {
    cause,
  });

const TARBALL = /^northbridge-([a-z0-9-]+?)-\d[^/]*\.tgz$/;

/** Our packages as files: specifiers by name. Throws `NB_CONFIG` where the directory has none. */
async function packedPackages(
  directory: string | undefined,
): Promise<Readonly<Record<string, string>> | undefined> {
  if (directory === undefined) return undefined;
  const names = await readdir(directory).catch((error: unknown) => {
    throw new NorthbridgeError("NB_CONFIG", `--packages ${directory}: ${fileErrorReason(error)}`);
  });
  const found = names.flatMap((file) => {
    const [, name] = TARBALL.exec(file) ?? [];
    return name === undefined ? [] : [[`@northbridge/${name}`, `file:${resolve(directory, file)}`] as const];
  });
  const packages = Object.fromEntries(found);
  for (const needed of ["@northbridge/cli", "@northbridge/sdk"]) {
    if (needed in packages) continue;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `--packages ${directory}: expected a tarball of ${needed}, found ${names.length === 0 ? "nothing" : names.slice(0, 3).join(", ")}`,
    );
  }
  return packages;
}
