/**
 * Installs and builds the workspace, each only when something it depends on has changed since it last succeeded.
 * Needs Node 20 and npm; once both are done, it needs no network.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StepError, step } from "./step.mjs";
import { node, root, toolEnvironment, workspaceDirectories } from "./workspace.mjs";

const state = join(root, ".northbridge");

/** Brings the workspace to where its commands and tests run. */
export async function setUp() {
  const [major = 0] = process.versions.node.split(".").map(Number);
  if (major < 20) throw new StepError(`Node 20 or newer is needed, this is ${process.versions.node}`);
  await install();
  await build();
}

async function install() {
  const manifests = ["pnpm-lock.yaml", "pnpm-workspace.yaml", "package.json"].concat(
    workspaceDirectories("packages", "examples").map((directory) => `${directory}/package.json`),
  );
  const stamp = new Stamp(join(root, "node_modules", ".northbridge-install"), manifests);
  if (stamp.isCurrent() && existsSync(node)) return;
  const pnpm = await findPnpm();
  await step("install", pnpm.command, [...pnpm.args, "install", "--frozen-lockfile", "--prefer-offline"], {
    // Without a terminal pnpm refuses to replace a stale node_modules unless it is told that it may.
    env: { ...toolEnvironment(), npm_config_confirm_modules_purge: "false" },
  });
  stamp.write();
}

/** Builds the packages whose sources, or whose dependencies' sources, have changed. */
async function build() {
  const directories = workspaceDirectories("packages", "examples");
  const manifests = new Map(
    directories.map((directory) => [
      directory,
      JSON.parse(readFileSync(join(root, directory, "package.json"), "utf8")),
    ]),
  );
  const byName = new Map([...manifests].map(([directory, { name }]) => [name, directory]));
  const dependencies = (directory) =>
    Object.keys(manifests.get(directory).dependencies ?? {}).flatMap((name) => byName.get(name) ?? []);
  const stale = directories
    .filter((directory) => manifests.get(directory).scripts?.build !== undefined)
    .map((directory) => {
      const sources = [...closure(directory, dependencies)].flatMap(filesOf);
      const inputs = ["pnpm-lock.yaml", "tsconfig.base.json", ...sources];
      return { directory, stamp: new Stamp(join(state, "built", directory), inputs) };
    })
    .filter(({ directory, stamp }) => {
      const isThere = directory.startsWith("examples/") || existsSync(join(root, directory, "dist"));
      return !isThere || !stamp.isCurrent();
    });
  if (stale.length === 0) return;
  const pnpm = await findPnpm();
  const filters = stale.flatMap(({ directory }) => ["--filter", `./${directory}`]);
  await step("build", pnpm.command, [
    ...pnpm.args,
    "-r",
    "--workspace-concurrency=2",
    ...filters,
    "run",
    "build",
  ]);
  for (const { stamp } of stale) stamp.write();
}

/** A directory and all that it depends on. */
function closure(directory, dependencies, seen = new Set()) {
  if (!seen.has(directory)) {
    seen.add(directory);
    for (const next of dependencies(directory)) closure(next, dependencies, seen);
  }
  return seen;
}

/** A pnpm of the pinned major version: the host's, or one that npm puts into `.northbridge/pnpm`. */
async function findPnpm() {
  const { packageManager } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const pinned = packageManager.split("@")[1];
  const own = join(state, "pnpm", "node_modules", "pnpm", "bin", "pnpm.cjs");
  if (!existsSync(own)) {
    // Asked outside of the repository, where the `packageManager` field cannot make it fetch another version.
    const host = spawnSync("pnpm", ["--version"], { cwd: tmpdir(), encoding: "utf8" });
    if (host.status === 0 && host.stdout.split(".")[0] === pinned.split(".")[0]) {
      return { command: "pnpm", args: [] };
    }
    const prefix = join(state, "pnpm");
    mkdirSync(prefix, { recursive: true });
    await step("fetch pnpm", "npm", ["install", "--prefix", prefix, "--no-save", `pnpm@${pinned}`]);
  }
  return { command: process.execPath, args: [own] };
}

/** Files below a package that its build reads. */
function filesOf(directory) {
  const produced = /\/(node_modules|dist|generated|coverage|\.northbridge)$|^examples\/[^/]+\/guest$/;
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (produced.test(path) || entry.name.endsWith(".md") || entry.name.endsWith(".test.ts")) return [];
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

/** Remembers by content which inputs a step last succeeded with. */
class Stamp {
  #file;
  #inputs;

  constructor(file, inputs) {
    this.#file = file;
    this.#inputs = inputs;
  }

  isCurrent() {
    return existsSync(this.#file) && readFileSync(this.#file, "utf8") === this.#digest();
  }

  write() {
    mkdirSync(join(this.#file, ".."), { recursive: true });
    rmSync(this.#file, { force: true });
    writeFileSync(this.#file, this.#digest());
  }

  #digest() {
    const hash = createHash("sha256");
    for (const input of [...this.#inputs].sort()) {
      hash
        .update(`${input}\0`)
        .update(readFileSync(join(root, input)))
        .update("\0");
    }
    return hash.digest("hex");
  }
}
