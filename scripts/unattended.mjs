/**
 * Runs a machine where nobody sits at a terminal: what standard input holds is typed at the guest's prompt, and at
 * its end the machine is told to power off. With standard input closed that is at the first prompt.
 */
import { spawn } from "node:child_process";
import { StepError } from "./step.mjs";
import { root, toolEnvironment } from "./workspace.mjs";

/** A shell's prompt at the end of the output so far, after at most a short path: not a line of the kernel's log. */
const prompt = /(^|\n)[^\n[\]]{0,80}[#$] $/;

/** @returns the command's exit code */
export function runUnattended(command, args) {
  return new Promise((resolve, reject) => {
    const machine = spawn(command, args, {
      cwd: root,
      env: toolEnvironment(),
      stdio: ["pipe", "pipe", "inherit"],
    });
    let seen = "";
    const look = (bytes) => {
      // An escape sequence asks a terminal where its cursor is: it is not part of the prompt.
      seen = (seen + bytes.toString("latin1")).replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").slice(-200);
      if (!prompt.test(seen)) return;
      machine.stdout.off("data", look);
      process.stdin.on("data", (input) => machine.stdin.write(input));
      process.stdin.on("end", () => machine.stdin.write("poweroff -f\n"));
    };
    machine.stdout.on("data", look);
    machine.stdout.pipe(process.stdout, { end: false });
    // The machine may end before it has read everything.
    machine.stdin.on("error", () => {});
    machine.on("error", (error) => reject(new StepError(`${command}: ${error.message}`)));
    machine.on("close", (code) => {
      process.stdin.destroy();
      resolve(code ?? 1);
    });
  });
}
