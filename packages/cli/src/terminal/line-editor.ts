const BACKSPACE = 0x08;
const DELETE = 0x7f;
const ENTER = 0x0d;
const NEWLINE = 0x0a;

/** Makes lines of the keys of a raw terminal, echoing them. */
export class LineEditor {
  readonly #echo: (text: string) => void;
  readonly #onLine: (line: string) => void;
  #line = "";

  constructor(echo: (text: string) => void, onLine: (line: string) => void) {
    this.#echo = echo;
    this.#onLine = onLine;
  }

  type(keys: Uint8Array): void {
    for (const key of keys) {
      if (key === ENTER || key === NEWLINE) {
        const line = this.#line;
        this.#line = "";
        this.#echo("\r\n");
        this.#onLine(line);
      } else if (key === BACKSPACE || key === DELETE) {
        if (this.#line === "") continue;
        this.#line = this.#line.slice(0, -1);
        this.#echo("\b \b");
      } else if (key >= 0x20 && key < 0x7f) {
        const typed = String.fromCharCode(key);
        this.#line += typed;
        this.#echo(typed);
      }
    }
  }
}
