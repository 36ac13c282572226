/** What the keys after Ctrl-A do. */
export interface EscapeActions {
  end(): void;
  toggleMonitor(): void;
  help(): void;
}

const CTRL_A = 0x01;

/** The escape keys of a terminal: Ctrl-A x, c and h; Ctrl-A twice is one Ctrl-A for the guest. */
export class EscapeKeys {
  readonly #actions: EscapeActions;
  #isEscaped = false;

  constructor(actions: EscapeActions) {
    this.#actions = actions;
  }

  /** Takes the escape sequences out of what was typed, carries them out, and returns the rest. */
  filter(typed: Uint8Array): Uint8Array {
    if (!this.#isEscaped && !typed.includes(CTRL_A)) return typed;
    const rest: number[] = [];
    for (const byte of typed) {
      if (!this.#isEscaped) {
        if (byte === CTRL_A) this.#isEscaped = true;
        else rest.push(byte);
        continue;
      }
      this.#isEscaped = false;
      if (byte === CTRL_A) rest.push(byte);
      else this.#act(String.fromCharCode(byte).toLowerCase());
    }
    return Uint8Array.from(rest);
  }

  #act(key: string): void {
    if (key === "x") this.#actions.end();
    else if (key === "c") this.#actions.toggleMonitor();
    else if (key === "h" || key === "?") this.#actions.help();
  }
}

export const ESCAPE_HELP: string = [
  "Ctrl-A x       end the machine",
  "Ctrl-A c       go to the monitor, and back",
  "Ctrl-A h       this help",
  "Ctrl-A Ctrl-A  send Ctrl-A to the guest",
].join("\n");
