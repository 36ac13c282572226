/**
 * Runs the examples of every README: each TypeScript block of a package's README and of the root's is run as a
 * module against the built packages. A `text` block right after it is what it must print. A block whose fence says
 * `no-run` is left out.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runMain, StepError } from "./step.mjs";
import { node, root, toolEnvironment, workspaceDirectories } from "./workspace.mjs";

const room = join(root, ".northbridge", "readmes");
const block = /^```ts([^\n]*)\n([\s\S]*?)^```\n(?:\s*^```text\n([\s\S]*?)^```\n)?/gm;

await runMain(() => {
  rmSync(room, { recursive: true, force: true });
  mkdirSync(join(room, "node_modules", "@northbridge"), { recursive: true });
  const packages = workspaceDirectories("packages");
  for (const directory of packages) {
    symlinkSync(join(root, directory), join(room, "node_modules", "@northbridge", basename(directory)));
  }
  let examples = 0;
  const failures = [];
  for (const directory of [".", ...packages]) {
    const readme = join(directory, "README.md");
    if (!existsSync(join(root, readme))) {
      failures.push(`${readme} is missing`);
      continue;
    }
    const blocks = [...`${readFileSync(join(root, readme), "utf8")}\n`.matchAll(block)];
    for (const [index, [, info, code, expected]] of blocks.entries()) {
      if (info.includes("no-run")) continue;
      examples += 1;
      const problem = runExample(`${basename(directory)}-${String(index + 1)}.ts`, code, expected);
      if (problem !== undefined) failures.push(`${readme}, example ${String(index + 1)}: ${problem}`);
    }
  }
  for (const failure of failures) process.stderr.write(`${failure}\n`);
  if (failures.length > 0) throw new StepError(`${String(failures.length)} README problems`);
  process.stderr.write(`${String(examples)} README examples ran\n`);
  return 0;
});

function runExample(name, code, expected) {
  const file = join(room, name.replace(/^\.-/, "root-"));
  writeFileSync(file, code);
  const child = spawnSync(node, [file], {
    cwd: room,
    env: toolEnvironment(),
    encoding: "utf8",
    timeout: 120_000,
  });
  if (child.status !== 0) return `${child.signal ?? `exit code ${String(child.status)}`}\n${child.stderr}`;
  if (expected !== undefined && child.stdout.trim() !== expected.trim()) {
    return `expected output\n${expected.trim()}\nfound\n${child.stdout.trim()}`;
  }
  return undefined;
}
