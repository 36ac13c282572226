import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness } from "../testing/cli-harness.ts";

const cli = join(import.meta.dirname, "../..");
const root = join(cli, "../..");
/** What `npm test` fetches, or another one. */
const guest = process.env["NORTHBRIDGE_GUEST"] ?? join(root, "examples/linux-serial/guest");

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
  await symlink(guest, join(project, "guest"));
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
  const hasGuest = existsSync(join(guest, "vmlinuz"));
  if (!hasGuest) console.log("a new project's test under Linux skips: npm test fetches a guest for it");
  expect(tests.stdout + tests.stderr).toMatch(hasGuest ? /Tests +8 passed/ : /Tests +7 passed \| 1 skipped/);
  const types = run(
    join(root, "node_modules/typescript/bin/tsc"),
    ...["-p", project, "--customConditions", "northbridge-source"],
  );
  expect(types.stdout).toBe("");
  expect(await readdir(project)).toContain("machine.config.ts");
});

it("refuses names that are none and directories that are there", async () => {
  const harness = new CliHarness(new FakeHypervisor([]));
  for (const [path, found] of [
    [join(directory, "Bad_Name"), "Bad_Name"],
    [join(directory, "1abc"), "1abc"],
    ["", "none"],
  ] as const) {
    expect(await harness.run("device", "new", path)).toMatchObject({
      code: 2,
      err: expect.stringContaining(`that begins with a letter, found ${found}\n`),
    });
  }
  for (const word of [
    "switch",
    "class",
    "await",
    "let",
    "yield",
    "registers",
    "bit",
    "eval",
    "static",
    "v",
  ]) {
    expect(await harness.run("device", "new", join(directory, word)), word).toMatchObject({
      code: 2,
      err: expect.stringContaining(`found ${word}; ${word}-device would do`),
    });
  }
  await mkdir(join(directory, "there"));
  expect(await harness.run("device", "new", join(directory, "there"))).toMatchObject({
    code: 2,
    err: expect.stringContaining(`device new: ${join(directory, "there")} is there already`),
  });
  expect(await harness.run("device", "new", join(directory, "no/where"))).toMatchObject({
    code: 1,
    err: expect.stringContaining("cannot make the project: there is no such file or directory"),
  });
});

it("depends on packages of a checkout where it is given them", async () => {
  const harness = new CliHarness(new FakeHypervisor([]));
  const packed = join(directory, "packed");
  const make = () => harness.run("device", "new", join(directory, "gadget"), "--packages", packed);
  expect(await make()).toMatchObject({ code: 2, err: expect.stringContaining("no such file or directory") });
  await mkdir(packed);
  expect(await make()).toMatchObject({ code: 2, err: expect.stringContaining("found nothing") });
  for (const name of ["cli", "core", "sdk", "net-tap"])
    await writeFile(join(packed, `northbridge-${name}-0.0.0.tgz`), "");
  expect(await make()).toMatchObject({ code: 0 });
  const file = (name: string): string => `file:${join(packed, `northbridge-${name}-0.0.0.tgz`)}`;
  expect(JSON.parse(await readFile(join(directory, "gadget/package.json"), "utf8"))).toMatchObject({
    dependencies: { "@northbridge/sdk": file("sdk") },
    devDependencies: {
      "@northbridge/cli": file("cli"),
      "@northbridge/core": file("core"),
      "@northbridge/net-tap": file("net-tap"),
    },
  });
});

const PACKED = process.env["NORTHBRIDGE_PACKED"];
if (PACKED === undefined)
  console.log("a new project from packages skips: NORTHBRIDGE_PACKED names no `.northbridge/packed`");

it.skipIf(PACKED === undefined)(
  "makes a project that npm installs, whose guest is fetched, and that tests and boots",
  { timeout: 600_000 },
  async () => {
    const outside = await mkdtemp(join(tmpdir(), "northbridge-new-"));
    try {
      const project = join(outside, "gadget");
      const harness = new CliHarness(new FakeHypervisor([]));
      expect(await harness.run("device", "new", project, "--packages", PACKED ?? "")).toMatchObject({
        code: 0,
      });
      const run = (command: string) =>
        spawnSync("sh", ["-c", command], {
          cwd: project,
          encoding: "utf8",
          env: {
            ...process.env,
            PATH: `${join(root, "node_modules/.bin")}:${process.env["PATH"]}`,
            NO_COLOR: "1",
          },
        });
      const begun = performance.now();
      expect(run("npm install --no-audit --no-fund")).toMatchObject({ status: 0 });
      expect(run("npx northbridge guest linux --out guest")).toMatchObject({ status: 0 });
      const tests = run("npm test");
      expect(tests.stdout + tests.stderr).toMatch(/Tests +8 passed/);
      expect(run('npm start -- --append "rdinit=/bin/busybox -- poweroff -f"')).toMatchObject({
        status: 0,
        stdout: expect.stringContaining("Power down"),
      });
      console.log(`from nothing to a booted machine: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    } finally {
      await rm(outside, { recursive: true });
    }
  },
);
