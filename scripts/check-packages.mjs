/**
 * Packs every package as it would be published and asks publint and attw about the tarball: does what `exports`
 * names exist, do the types resolve for the ESM consumers we support.
 */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runMain, StepError, step } from "./step.mjs";
import { root, workspaceDirectories } from "./workspace.mjs";

const packed = join(root, ".northbridge", "packed");

await runMain(async () => {
  rmSync(packed, { recursive: true, force: true });
  mkdirSync(packed, { recursive: true });
  const failures = [];
  let checked = 0;
  for (const directory of workspaceDirectories("packages")) {
    const manifest = JSON.parse(readFileSync(join(root, directory, "package.json"), "utf8"));
    if (manifest.private === true) continue;
    const name = manifest.name.replace(/^@/, "").replace("/", "-");
    const tarball = join(packed, `${name}-${manifest.version}.tgz`);
    try {
      const cwd = join(root, directory);
      await step(`pack ${name}`, "pnpm", ["pack", "--pack-destination", packed], { cwd, quiet: true });
      await step(`publint ${name}`, "publint", ["run", "--strict", tarball], { quiet: true });
      await step(`attw ${name}`, "attw", ["--profile", "esm-only", "--no-definitely-typed", tarball], {
        quiet: true,
      });
      checked += 1;
    } catch (error) {
      if (!(error instanceof StepError)) throw error;
      process.stderr.write(`${error.message}\n`);
      failures.push(directory);
    }
  }
  if (failures.length > 0) throw new StepError(`packages that cannot be published: ${failures.join(", ")}`);
  process.stderr.write(`${String(checked)} packages can be published\n`);
  return 0;
});
