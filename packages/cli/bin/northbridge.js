#!/usr/bin/env node
// Plain JavaScript that every Node understands: started on an older Node than the command needs, it runs the command
// on the one of the `node` npm package instead, or says what is missing.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module, { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NEEDED = 24;
const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, "..", "dist", "main.js");
const source = join(here, "..", "src", "main.ts");
const fromSource = "--conditions=northbridge-source";

// V8 keeps what it compiled of our modules between runs: the guest starts some 25 ms earlier.
module.enableCompileCache?.();

if (Number(process.versions.node.split(".")[0]) < NEEDED) runOnNewerNode();
else if (existsSync(built) && !process.execArgv.includes(fromSource)) await import(built);
else if (process.execArgv.includes(fromSource)) await import(source);
else fail("the command is not built: run its package's build first");

function runOnNewerNode() {
  const node = newerNode();
  if (node === undefined) {
    fail(
      `needs Node ${NEEDED} or newer and runs on ${process.version}: install Node ${NEEDED}, or the npm package ` +
        `node@${NEEDED} beside @northbridge/cli`,
    );
    return;
  }
  const child = spawn(node, [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => fail(`${node}: ${error.message}`));
  child.on("close", (code, signal) => {
    if (signal === null) process.exitCode = code;
    else {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
  });
}

function newerNode() {
  const require = createRequire(import.meta.url);
  try {
    const manifest = require.resolve("node/package.json", { paths: [here, process.cwd()] });
    const version = require(manifest).version;
    const binary = join(dirname(manifest), "bin", process.platform === "win32" ? "node.exe" : "node");
    return Number(version.split(".")[0]) >= NEEDED && existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

function fail(message) {
  process.stderr.write(`northbridge: ${message}\n`);
  process.exitCode = 1;
}
