/**
 * Runs one long step of setting up: its output goes to a log file, a terminal sees that it moves, and a failure is
 * one line that names the log. Plain JavaScript without dependencies: it runs on Node 20 before anything is installed.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join, relative } from "node:path";
import { root, toolEnvironment } from "./workspace.mjs";

const logs = join(root, ".northbridge", "logs");

/** A step that failed; its message is for a person. */
export class StepError extends Error {}

/**
 * Runs `command args…` as the step `name`. Throws a {@link StepError} that names the log.
 * `quiet`: without a terminal, says nothing of a step that succeeds.
 */
export async function step(name, command, args, { quiet = false, ...options } = {}) {
  mkdirSync(logs, { recursive: true });
  const log = join(logs, `${name.replace(/\W+/g, "-")}.log`);
  const fd = openSync(log, "w");
  const started = Date.now();
  const seconds = () => `${String(Math.round((Date.now() - started) / 1000))} s`;
  const terminal = process.stderr.isTTY;
  const show = () => process.stderr.write(`\r\x1b[K${name} … ${seconds()}`);
  if (!terminal && !quiet) process.stderr.write(`${name} …\n`);
  const ticker = terminal ? setInterval(show, 500) : undefined;
  if (terminal) show();
  let problem;
  try {
    problem = await run(command, args, { ...options, stdio: ["ignore", fd, fd] });
  } finally {
    clearInterval(ticker);
    closeSync(fd);
    if (terminal) process.stderr.write("\r\x1b[K");
  }
  if (problem !== undefined) {
    if (process.env.CI) process.stderr.write(tail(log));
    throw new StepError(`${name} failed: ${reason(log) ?? problem}: see ${relative(process.cwd(), log)}`);
  }
  if (!terminal && !quiet) process.stderr.write(`${name}: done in ${seconds()}\n`);
}

/** Runs a command to its end. @returns what went wrong, if anything did */
async function run(command, args, options) {
  const end = await spawned(command, args, options);
  return end.error ?? end.signal ?? (end.code === 0 ? undefined : `exit code ${String(end.code)}`);
}

/** Runs a command in the foreground. @returns its exit code */
export async function runToEnd(command, args) {
  const ignore = () => {};
  // Ctrl-C on a terminal reaches the whole group: what it means is the command's to say.
  process.on("SIGINT", ignore);
  const end = await spawned(command, args, { stdio: "inherit" });
  process.off("SIGINT", ignore);
  if (end.error !== undefined) throw new StepError(`${command}: ${end.error}`);
  return end.code ?? 128 + (constants.signals[end.signal] ?? 0);
}

function spawned(command, args, options) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env: toolEnvironment(), ...options });
    child.on("error", (error) => resolve({ error: error.message }));
    child.on("exit", (code, signal) => resolve({ code, signal }));
  });
}

/** Runs `main`; a {@link StepError} becomes one line on standard error and exit code 1. */
export async function runMain(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    process.stderr.write(`northbridge: ${error.message}\n`);
    process.exitCode = 1;
  }
}

/** What a command of ours said in its last line. */
function reason(log) {
  return /^northbridge: (.*)$/.exec(readFileSync(log, "utf8").trim().split("\n").at(-1))?.[1];
}

function tail(log) {
  return readFileSync(log, "utf8").split("\n").slice(-40).join("\n");
}
