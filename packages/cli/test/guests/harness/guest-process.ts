import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

const MAIN = join(import.meta.dirname, "..", "..", "..", "src", "main.ts");

/** How a `northbridge` process ended, and all that it said. */
export interface CommandEnd {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Waiter {
  readonly pattern: RegExp;
  readonly resolve: (text: string) => void;
  readonly reject: (error: Error) => void;
}

export interface GuestProcessOptions {
  readonly stdin?: "pipe" | "ignore";
  /** Another program than `northbridge`. */
  readonly program?: string;
  /** Number of the user and group that it runs as. */
  readonly user?: number | undefined;
}

/** A `northbridge` command in a process of its own, run from its sources; or another program that has a guest. */
export class GuestProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly ended: Promise<CommandEnd>;
  #out = "";
  #err = "";
  #isEnded = false;
  /** Where in the output the last wait ended. */
  #seen = 0;
  #waiter: Waiter | undefined;

  constructor(args: readonly string[], options: GuestProcessOptions = {}) {
    const { program, stdin = "pipe", user } = options;
    const [file, all] =
      program === undefined
        ? [process.execPath, ["--conditions=northbridge-source", MAIN, ...args]]
        : [program, args];
    this.#child = spawn(file, all, {
      stdio: [stdin, "pipe", "pipe"],
      ...(user !== undefined && { uid: user, gid: user }),
    });
    this.#child.stdout?.setEncoding("latin1").on("data", (text: string) => {
      this.#out += text;
      this.#look();
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#err += text));
    // The machine may end before it has read everything.
    this.#child.stdin?.on("error", () => undefined);
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code) => {
        this.#isEnded = true;
        resolve({ code, out: this.#out, err: this.#err });
        this.#waiter?.reject(this.#endedEarly(this.#waiter.pattern, code));
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What the guest has written so far. */
  get out(): string {
    return this.#out;
  }

  /** Resolves with the output since the last wait up to and with the first match. */
  async waitFor(pattern: RegExp): Promise<string> {
    if (this.#isEnded) throw this.#endedEarly(pattern, this.#child.exitCode);
    return new Promise((resolve, reject) => {
      this.#waiter = { pattern, resolve, reject };
      this.#look();
    });
  }

  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isEnded) return;
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  #look(): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    const found = waiter.pattern.exec(this.#out.slice(this.#seen));
    if (found === null) return;
    const end = this.#seen + found.index + found[0].length;
    const text = this.#out.slice(this.#seen, end);
    this.#seen = end;
    this.#waiter = undefined;
    waiter.resolve(text);
  }

  #endedEarly(pattern: RegExp, code: number | null): Error {
    const last = this.#out.slice(-1500);
    return new Error(
      `ended with ${code} before ${String(pattern)}; ${this.#err.trim()}; last output:\n${last}`,
    );
  }
}
