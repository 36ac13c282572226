import type { Machine } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { AgentConnection, CommandOutcome } from "./agent/agent-connection.ts";
import type { GuestConsole } from "./guest-console.ts";

/** How a command in the guest ended. */
export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** As the shell counts: 128 and the signal where one ended it. */
  readonly status: number;
}

/** How a program is run in a guest. */
export interface ExecOptions {
  /** What the command reads. @defaultValue nothing */
  readonly stdin?: string | Uint8Array;
  /** @defaultValue a minute */
  readonly timeoutMs?: number;
}

const EXEC_TIMEOUT_MS = 60_000;

/** A running Linux that takes commands and files from a test. */
export class LinuxGuest {
  readonly machine: Machine;
  /** Its serial console, with a shell: what the kernel says is there. */
  readonly console: GuestConsole;
  readonly #agent: AgentConnection;

  constructor(machine: Machine, console: GuestConsole, agent: AgentConnection) {
    this.machine = machine;
    this.console = console;
    this.#agent = agent;
  }

  /**
   * Runs a line of shell and waits for its end, that of its pipes too: what it leaves in the background must write
   * somewhere else. One command at a time. Throws `NB_HOST` where it does not end in time or the machine stops meanwhile.
   */
  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    const { stdout, stderr, status } = await this.#run(command, options);
    const text = new TextDecoder();
    return { stdout: text.decode(stdout), stderr: text.decode(stderr), status };
  }

  /** Writes a file of the guest, with its directories. Throws `NB_HOST`. */
  async push(
    path: string,
    content: string | Uint8Array,
    options: { readonly mode?: number } = {},
  ): Promise<void> {
    const file = quoted(path);
    const mode = (options.mode ?? 0o644).toString(8);
    await this.#expect(
      `mkdir -p "$(dirname ${file})" && cat > ${file} && chmod ${mode} ${file}`,
      `cannot write ${path}`,
      { stdin: content },
    );
  }

  /** Reads a file of the guest. Throws `NB_HOST`. */
  async pull(path: string): Promise<Uint8Array> {
    return this.#expect(`cat ${quoted(path)}`, `cannot read ${path}`, {});
  }

  /**
   * Loads a module of the guest's kernel and those that it needs. The initramfs must have it:
   * `northbridge guest linux --module NAME`. Throws `NB_HOST`.
   */
  async loadModule(name: string, parameters = ""): Promise<void> {
    const complaint = `cannot load the module ${name}`;
    const { stderr, status } = await this.#run(`modprobe ${quoted(name)} ${parameters}`, {});
    if (status === 0) return;
    const reason = new TextDecoder().decode(stderr).trim();
    const hint = reason.includes("not found")
      ? `; northbridge guest linux --module ${name} makes a guest that has it`
      : "";
    throw new NorthbridgeError("NB_HOST", `guest: ${complaint}: ${reason}${hint}`);
  }

  /** Pulls the machine's plug. */
  stop(): Promise<void> {
    return this.machine.stop();
  }

  async #expect(command: string, complaint: string, options: ExecOptions): Promise<Uint8Array> {
    const { stdout, stderr, status } = await this.#run(command, options);
    if (status === 0) return stdout;
    throw new NorthbridgeError("NB_HOST", `guest: ${complaint}: ${new TextDecoder().decode(stderr).trim()}`);
  }

  #run(command: string, { stdin = "", timeoutMs = EXEC_TIMEOUT_MS }: ExecOptions): Promise<CommandOutcome> {
    const input = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    return within(timeoutMs, `guest: ${command}`, this.machine, this.console, () =>
      this.#agent.run(command, input),
    );
  }
}

/** A word that the shell takes as it is. */
const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** Ends waiting when time is up or the machine stops. */
export async function within<T>(
  timeoutMs: number,
  what: string,
  machine: Machine,
  console: GuestConsole,
  wait: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const over = Promise.withResolvers<never>();
  const give = (reason: string): void => {
    const error = new NorthbridgeError(
      "NB_HOST",
      `${what}: ${reason}; the console ended with:\n${console.tail}`,
    );
    controller.abort(error);
    over.reject(error);
  };
  const timer = setTimeout(() => {
    give(`did not end within ${timeoutMs} ms`);
  }, timeoutMs);
  void machine.stopped.then((reason) => {
    give(`the machine stopped: ${JSON.stringify(reason)}`);
  });
  over.promise.catch(() => undefined);
  try {
    return await Promise.race([wait(controller.signal), over.promise]);
  } finally {
    clearTimeout(timer);
  }
}
