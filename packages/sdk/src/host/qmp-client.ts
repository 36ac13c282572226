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

  constructor(commands: Writable, answers: Readable) {
    this.#commands = commands;
    let text = "";
    answers.setEncoding("utf8").on("data", (more: string) => {
      const lines = (text + more).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) this.#heard(JSON.parse(line) as QmpLine);
    });
  }

  /** Resolves with the answer; rejects with QEMU's own words. */
  async execute(command: string, options: object = {}): Promise<unknown> {
    this.#negotiated ??= this.#ask({ execute: "qmp_capabilities" });
    await this.#negotiated;
    return await this.#ask({ execute: command, arguments: options });
  }

  #ask(request: object): Promise<unknown> {
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.push(answer);
    this.#commands.write(`${JSON.stringify(request)}\n`);
    return answer.promise;
  }

  #heard(line: QmpLine): void {
    if (line.error !== undefined) this.#waiting.shift()?.reject(new Error(`qmp: ${line.error.desc}`));
    else if ("return" in line) this.#waiting.shift()?.resolve(line.return);
  }
}
