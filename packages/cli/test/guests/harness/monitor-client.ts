import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";

/** The monitor of a running machine, at the socket that `--monitor` names. */
export class MonitorClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #lines: Interface;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket });
  }

  static async connect(path: string): Promise<MonitorClient> {
    const socket = connect(path);
    await once(socket, "connect");
    return new MonitorClient(socket);
  }

  /** The answer, of one line. */
  async ask(command: string): Promise<string> {
    this.#socket.write(`${command}\n`);
    const [line] = (await once(this.#lines, "line")) as [string];
    return line;
  }

  /** Asks again and again until the answer is such. */
  async until(command: string, pattern: RegExp): Promise<string> {
    for (;;) {
      const answer = await this.ask(command);
      if (pattern.test(answer)) return answer;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lines.close();
    this.#socket.destroy();
    await Promise.resolve();
  }
}
