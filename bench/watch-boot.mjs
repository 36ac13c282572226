/** Runs a virtual machine in a process and reads from Linux's /proc what it cost until it wrote a text. */
import { spawn } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Clock ticks of /proc/PID/stat per second (`USER_HZ`): 100 on every x86-64 Linux. */
const TICKS_PER_SECOND = 100;
const GIVE_UP_MS = 300_000;

/** @returns the path of a program on PATH, or nothing */
export function findProgram(name) {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Runs `command` until it writes `text`, measures it there, and ends it with SIGTERM. Rejects where it ends before. */
export function watchBoot(command, args, text) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    // Standard input stays open and says nothing, as a terminal's does.
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), GIVE_UP_MS);
    let said = "";
    let measured;
    const see = (bytes) => {
      said += bytes.toString("latin1");
      if (measured !== undefined || !said.includes(text)) return;
      measured = { ...cost(child.pid), wallMs: performance.now() - started };
      child.kill("SIGTERM");
    };
    child.stdout.on("data", see);
    child.stderr.on("data", see);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      if (measured !== undefined) resolve(measured);
      else reject(new Error(`${command} ended with ${code} before "${text}":\n${said.slice(-2000)}`));
    });
  });
}

/** User and system time of a process and its threads so far, and its peak of resident memory (proc(5)). */
export function cost(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the program's name in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const [, peakKib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return { cpuMs: (ticks / TICKS_PER_SECOND) * 1000, peakRssMib: Number(peakKib) / 1024 };
}
