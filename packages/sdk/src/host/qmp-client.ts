import type { Readable, Writable } from "node:stream";

/** A line of the QEMU Machine Protocol: a greeting, an answer or an event. */
interface QmpLine {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** One command a line, one answer a line (QEMU, docs/interop/qmp-spec). */
export class QmpClient {
  readonly #commands: Writable;
  readonly #waiting: PromiseWithResolvers<unknown>[] = [];
  #negotiated: Promise<unknown> | undefined;
  #hasEnded = false;

  constructor(commands: Writable, answers: Readable) {
    this.#commands = commands;
    // A QEMU that is gone says so by the end of its answers.
    commands.on("error", () => undefined);
    let text = "";
    answers
      .setEncoding("utf8")
      .on("data", (more: string) => {
        const lines = (text + more).split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) this.#heard(JSON.parse(line) as QmpLine);
      })
      .on("error", () => undefined)
      .on("close", () => {
        this.#hasEnded = true;
        for (const answer of this.#waiting.splice(0)) answer.reject(new Error("QEMU has ended"));
      });
  }

  /** Nothing is answered any more. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Resolves with the answer; rejects with QEMU's own words, or where it ends before it answers. */
  async execute(command: string, options: object = {}): Promise<unknown> {
    try {
      this.#negotiated ??= this.#ask({ execute: "qmp_capabilities" });
      await this.#negotiated;
      return await this.#ask({ execute: command, arguments: options });
    } catch (error) {
      throw new Error(`qmp: ${command}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }

  #ask(request: object): Promise<unknown> {
    const answer = Promise.withResolvers<unknown>();
    if (this.#hasEnded) answer.reject(new Error("QEMU has ended"));
    else {
      this.#waiting.push(answer);
      this.#commands.write(`${JSON.stringify(request)}\n`);
    }
    return answer.promise;
  }

  #heard(line: QmpLine): void {
    if (line.error !== undefined) this.#waiting.shift()?.reject(new Error(line.error.desc));
    else if ("return" in line) this.#waiting.shift()?.resolve(line.return);
  }
}
