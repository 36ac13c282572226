import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

/** A vhost-user back end that somebody else wrote, in a process of its own that listens at a socket. */
export class ForeignBackEnd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #socket: string;
  readonly #ended: Promise<void>;
  #said = "";
  #isEnded = false;

  private constructor(program: string, args: readonly string[], socket: string) {
    this.#socket = socket;
    this.#child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#said += text));
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", resolve);
      this.#child.once("close", resolve);
    }).then(() => {
      this.#isEnded = true;
    });
  }

  /** Starts it and waits until it listens. Throws what it said where it ends instead. */
  static async start(program: string, args: readonly string[], socket: string): Promise<ForeignBackEnd> {
    const server = new ForeignBackEnd(program, args, socket);
    while (!existsSync(socket)) {
      if (server.#isEnded) throw new Error(`${program} ended: ${server.#said.trim()}`);
      await setTimeout(10);
    }
    return server;
  }

  /** Kills it where it is, and takes its socket away. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    await rm(this.#socket, { force: true });
  }
}
