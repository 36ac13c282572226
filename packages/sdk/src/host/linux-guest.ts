import type { Machine } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { GuestConsole } from "./guest-console.ts";

/** How a command in the guest ended. */
export interface ExecResult {
  /** What it wrote to standard output and standard error. */
  readonly stdout: string;
  readonly status: number;
}

const EXEC_TIMEOUT_MS = 60_000;

/** A running Linux whose shell takes commands from a test. */
export class LinuxGuest {
  readonly machine: Machine;
  readonly #console: GuestConsole;
  #commands = 0;

  constructor(machine: Machine, console: GuestConsole) {
    this.machine = machine;
    this.#console = console;
  }

  /**
   * Runs a line of shell. Commands run one after the other.
   * Throws `NB_HOST` where it does not end in time or the machine stops meanwhile.
   */
  async exec(command: string, options: { readonly timeoutMs?: number } = {}): Promise<ExecResult> {
    const mark = `#nb${++this.#commands}`;
    this.#console.clear();
    // The shell sees the end mark in two parts, so that nothing but its own output is the mark.
    this.#console.type(`{ ${command}\n} 2>&1; echo "${mark}""=$?;"\n`);
    const match = await within(
      options.timeoutMs ?? EXEC_TIMEOUT_MS,
      `guest: ${command}`,
      this.machine,
      this.#console,
      (signal) => this.#console.take(new RegExp(`^([^]*?)${mark}=(\\d+);\\r?\\n`), signal),
    );
    return { stdout: (match[1] ?? "").replaceAll("\r\n", "\n"), status: Number(match[2]) };
  }

  /** Pulls the machine's plug. */
  stop(): Promise<void> {
    return this.machine.stop();
  }
}

/** Ends waiting when time is up or the machine stops. */
export async function within<T>(
  timeoutMs: number,
  what: string,
  machine: Machine,
  console: GuestConsole,
  wait: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const give = (reason: string): void => {
    controller.abort(
      new NorthbridgeError("NB_HOST", `${what}: ${reason}; the console ended with:\n${console.tail}`),
    );
  };
  const timer = setTimeout(() => {
    give(`did not end within ${timeoutMs} ms`);
  }, timeoutMs);
  void machine.stopped.then((reason) => {
    give(`the machine stopped: ${JSON.stringify(reason)}`);
  });
  try {
    return await wait(controller.signal);
  } finally {
    clearTimeout(timer);
  }
}
