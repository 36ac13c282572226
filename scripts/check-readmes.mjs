/**
 * Runs the examples of every README and of docs/devices.md: each TypeScript block is run as a module against the built
 * packages. A `text` block right after it is what it must print. A block that begins with a comment like `// name.ts` is
 * a file that later blocks import, and is type-checked; one called `name.test.ts` is run by vitest. A block whose fence
 * says `no-run` is left out.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { runMain, StepError } from "./step.mjs";
import { node, root, toolEnvironment, workspaceDirectories } from "./workspace.mjs";

const room = join(root, ".northbridge", "readmes");
/** What examples import beside our packages, and where it is installed. */
const tools = {
  valibot: join("packages", "core", "node_modules", "valibot"),
  vitest: join("node_modules", "vitest"),
  "fast-check": join("node_modules", "fast-check"),
  "@types": join("node_modules", "@types"),
};
const named = [];
const block = /^```ts([^\n]*)\n([\s\S]*?)^```\n(?:\s*^```text\n([\s\S]*?)^```\n)?/gm;

await runMain(() => {
  rmSync(room, { recursive: true, force: true });
  mkdirSync(join(room, "node_modules", "@northbridge"), { recursive: true });
  const packages = workspaceDirectories("packages");
  for (const directory of packages) {
    symlinkSync(join(root, directory), join(room, "node_modules", "@northbridge", basename(directory)));
  }
  for (const [name, from] of Object.entries(tools))
    symlinkSync(join(root, from), join(room, "node_modules", name));
  // What `npm test` fetched: examples that boot Linux skip without.
  symlinkSync(join(root, "examples", "linux-serial", "guest"), join(room, "guest"));
  let examples = 0;
  const failures = [];
  const files = [".", ...packages].map((directory) => join(directory, "README.md"));
  for (const readme of [...files, join("docs", "devices.md")]) {
    if (!existsSync(join(root, readme))) {
      failures.push(`${readme} is missing`);
      continue;
    }
    const blocks = [...`${readFileSync(join(root, readme), "utf8")}\n`.matchAll(block)];
    for (const [index, [, info, code, expected]] of blocks.entries()) {
      if (info.includes("no-run")) continue;
      examples += 1;
      const [, name] = /^\/\/ ([\w.-]+\.ts)\n/.exec(code) ?? [];
      if (name !== undefined) named.push(name);
      const problem = runExample(
        name ?? `${basename(dirname(readme))}-${String(index + 1)}.ts`,
        code,
        expected,
      );
      if (problem !== undefined) failures.push(`${readme}, example ${String(index + 1)}: ${problem}`);
    }
  }
  const types = checkTypes();
  if (types !== "") failures.push(types);
  for (const failure of failures) process.stderr.write(`${failure}\n`);
  if (failures.length > 0) throw new StepError(`${String(failures.length)} README problems`);
  process.stderr.write(`${String(examples)} README examples ran\n`);
  return 0;
});

function runExample(name, code, expected) {
  const file = join(room, name.replace(/^\.-/, "root-"));
  writeFileSync(file, code);
  const vitest = [join(root, "node_modules", "vitest", "vitest.mjs"), "run", "--root", room, name];
  const child = spawnSync(node, name.endsWith(".test.ts") ? vitest : [file], {
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

/** @returns what the compiler says of the named blocks */
function checkTypes() {
  const compilerOptions = {
    target: "es2024",
    lib: ["es2024", "esnext.disposable"],
    types: ["node"],
    module: "nodenext",
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
  };
  writeFileSync(join(room, "tsconfig.json"), JSON.stringify({ compilerOptions, files: named }));
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  return spawnSync(node, [tsc, "-p", room], { cwd: room, encoding: "utf8" }).stdout;
}
