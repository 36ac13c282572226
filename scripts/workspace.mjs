/** Where things are in this repository, and the environment its tools run in. */
import { existsSync, readdirSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Tools installed in the workspace come first, among them the Node that runs the project. */
const binaries = join(root, "node_modules", ".bin");

/** The Node brought in by the devDependency `node`: the program itself, for a shell script would keep signals from it. */
export const node = join(root, "node_modules", "node", "bin", "node");

export function toolEnvironment() {
  return {
    ...process.env,
    PATH: `${binaries}${delimiter}${process.env.PATH ?? ""}`,
    // The pinned pnpm is at hand already: never fetch another one.
    npm_config_manage_package_manager_versions: "false",
  };
}

/** Directories of the workspace's packages and examples, relative to the root. */
export function workspaceDirectories(...parents) {
  return parents.flatMap((parent) =>
    existsSync(join(root, parent))
      ? readdirSync(join(root, parent))
          .filter((name) => existsSync(join(root, parent, name, "package.json")))
          .map((name) => `${parent}/${name}`)
      : [],
  );
}
