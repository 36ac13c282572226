import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness } from "../testing/cli-harness.ts";

const cli = join(import.meta.dirname, "../..");
const root = join(cli, "../..");

let directory: string;
beforeEach(async () => {
  // Below the package, so that the project finds what it depends on as if it were installed.
  await mkdir(join(cli, ".northbridge"), { recursive: true });
  directory = await mkdtemp(join(cli, ".northbridge", "device-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

it("makes a project that compiles and passes its own tests", { timeout: 300_000 }, async () => {
  const project = join(directory, "my-gadget");
  const harness = new CliHarness(new FakeHypervisor([]));
  expect(await harness.run("device", "new", project)).toMatchObject({ code: 0, err: "" });
  const modules = join(project, "node_modules");
  await mkdir(join(modules, "@northbridge"), { recursive: true });
  await symlink(cli, join(modules, "@northbridge/cli"));
  await symlink(join(root, "packages/core/node_modules/valibot"), join(modules, "valibot"));
  const conditions = JSON.stringify(["northbridge-source"]);
  await writeFile(
    join(project, "vitest.config.mjs"),
    `export default { resolve: { conditions: ${conditions} }, ssr: { resolve: { conditions: ${conditions} } } };\n`,
  );
  const run = (...args: readonly string[]) =>
    spawnSync(join(root, "node_modules/.bin/node"), args, {
      cwd: project,
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
    });
  const tests = run(join(root, "node_modules/vitest/vitest.mjs"), "run", "--root", project);
  expect(tests.stdout + tests.stderr).toMatch(/Tests +6 passed \| 1 skipped/);
  const types = run(
    join(root, "node_modules/typescript/bin/tsc"),
    ...["-p", project, "--customConditions", "northbridge-source"],
  );
  expect(types.stdout).toBe("");
  expect(await readdir(project)).toContain("machine.config.ts");
});

it("refuses names that are none and directories that are there", async () => {
  const harness = new CliHarness(new FakeHypervisor([]));
  expect(await harness.run("device", "new", join(directory, "Bad_Name"))).toMatchObject({
    code: 2,
    err: expect.stringContaining("found Bad_Name"),
  });
  await mkdir(join(directory, "there"));
  expect(await harness.run("device", "new", join(directory, "there"))).toMatchObject({
    code: 1,
    err: expect.stringContaining("cannot make the project"),
  });
});
