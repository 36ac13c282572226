import { type CommandEnd, GuestProcess } from "./guest-process.ts";

/** What a command in the guest wrote, and its exit status. */
export interface Answer {
  readonly status: number;
  readonly text: string;
}

const PROMPT = /\n~ # (\x1b\[6n)?$/;

/**
 * The shell of a booted guest. The one at the prompt edits lines and asks the terminal for its cursor: behind it runs
 * one that reads the terminal as a script, so that nothing but the answers of commands is on the console.
 */
export class GuestShell implements AsyncDisposable {
  readonly process: GuestProcess;
  #commands = 0;

  private constructor(process: GuestProcess) {
    this.process = process;
  }

  /** Boots a machine (`northbridge run` and these arguments) and waits for the guest's prompt. */
  static boot(args: readonly string[]): Promise<GuestShell> {
    return GuestShell.over(new GuestProcess(["run", ...args]));
  }

  /** Waits for the prompt of a guest whose console the process has on its standard input and output. */
  static async over(process: GuestProcess): Promise<GuestShell> {
    try {
      await process.waitFor(PROMPT);
      process.type("stty -echo; echo quiet; exec sh /dev/ttyS0\n");
      await process.waitFor(/\nquiet\r?\n/);
      return new GuestShell(process);
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The shell of a machine that was saved while it waited for a command, as `boot` left it. */
  static restored(args: readonly string[]): GuestShell {
    return new GuestShell(new GuestProcess(["run", ...args]));
  }

  async run(command: string): Promise<Answer> {
    const id = `${process.pid}.${++this.#commands}`;
    this.process.type(`${command}\necho "[end ""${id} $?]"\n`);
    const text = await this.process.waitFor(new RegExp(`\\[end ${id.replace(".", "\\.")} (\\d+)\\]\\r?\\n`));
    const [, status = "-1"] = /\[end \S+ (\d+)\]\r?\n$/.exec(text) ?? [];
    return { status: Number(status), text: text.slice(0, text.lastIndexOf("[end ")).replaceAll("\r", "") };
  }

  /** What a command wrote, without space around it. Throws where it failed. */
  async ask(command: string): Promise<string> {
    const { status, text } = await this.run(command);
    if (status !== 0) throw new Error(`${command}: exit status ${status}: ${text}`);
    return text.trim();
  }

  /** Types a command that ends the machine, and waits for that. */
  async end(command = "poweroff -f"): Promise<CommandEnd> {
    this.process.type(`${command}\n`);
    return this.process.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}
