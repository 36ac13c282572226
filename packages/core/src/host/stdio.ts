import type { CharBackend } from "../contracts/index.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputBuffer } from "./output-buffer.ts";

/** Bytes that may wait for the guest before the terminal or pipe is no longer read. */
const MOST_WAITING = 65_536;
/** Output that may wait for whoever reads standard output; what comes then is lost. */
const MOST_UNREAD = 1 << 20;
/** Output from which on whoever can wait is asked to. */
const UNREAD = MOST_UNREAD >> 2;

const NEWLINE = 0x0a;
const ignore = (): void => undefined;

/** How a `StdioBackend` deals with this process's standard streams. */
export interface StdioOptions {
  readonly stdin?: NodeJS.ReadStream;
  readonly stdout?: NodeJS.WriteStream;
  /** Sees input before the guest does and returns what the guest shall see: escape keys end here. */
  readonly filter?: (bytes: Uint8Array) => Uint8Array;
  /** Standard input has ended: nothing more will come. */
  readonly onEnd?: () => void;
  /** Standard output is gone (EPIPE) or failed. */
  readonly onError?: (error: Error) => void;
  /** Standard output is read again, and so many bytes were lost meanwhile. */
  readonly onLoss?: (bytes: number) => void;
}

/** The guest's console on standard input and output; a terminal is in raw mode between `open` and `close`. */
export class StdioBackend implements CharBackend {
  readonly #stdin: NodeJS.ReadStream;
  readonly #stdout: NodeJS.WriteStream;
  readonly #filter: (bytes: Uint8Array) => Uint8Array;
  readonly #onEnd: () => void;
  readonly #onError: (error: Error) => void;
  readonly #onLoss: (bytes: number) => void;
  readonly #output: OutputBuffer;
  readonly #input: InputQueue;
  #isOpen = false;
  #last = NEWLINE;
  #onRoom: (hasRoom: boolean) => void = () => undefined;
  #hasRoom = true;
  #lostBytes = 0;
  readonly #onData = (chunk: Uint8Array): void => {
    this.#input.push(this.#filter(chunk));
  };
  readonly #onDrain = (): void => {
    this.#sayLoss();
    this.#sayRoom();
  };

  constructor(options: StdioOptions = {}) {
    this.#stdin = options.stdin ?? process.stdin;
    this.#stdout = options.stdout ?? process.stdout;
    this.#filter = options.filter ?? ((bytes) => bytes);
    this.#onEnd = options.onEnd ?? (() => undefined);
    this.#onError = options.onError ?? (() => undefined);
    this.#onLoss = options.onLoss ?? (() => undefined);
    this.#output = new OutputBuffer((bytes) => {
      if (this.#stdout.writableLength > MOST_UNREAD) this.#lostBytes += bytes.length;
      else this.#stdout.write(bytes);
      this.#sayRoom();
    });
    this.#input = new InputQueue((waiting) => {
      if (!this.#isOpen) return;
      if (waiting > MOST_WAITING) this.#stdin.pause();
      else if (this.#stdin.isPaused()) this.#stdin.resume();
    });
  }

  /** Starts to read, raw where standard input is a terminal. */
  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    if (this.#stdin.isTTY) this.#stdin.setRawMode(true);
    this.#stdin.on("data", this.#onData);
    this.#stdin.on("end", this.#onEnd);
    this.#stdin.on("error", this.#onError);
    this.#stdout.on("error", this.#onError);
    this.#stdout.on("drain", this.#onDrain);
    this.#stdin.resume();
  }

  /** Writes what is left and gives the terminal back as it was. Callable twice and inside a signal handler. */
  close(): void {
    this.flush();
    this.#sayLoss();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#stdin.off("data", this.#onData);
    this.#stdin.off("end", this.#onEnd);
    this.#stdin.off("error", this.#onError);
    this.#stdout.off("drain", this.#onDrain);
    // What is still on its way may fail; the reader that then is gone is nobody's concern any more.
    this.#stdout.off("error", this.#onError);
    this.#stdout.off("error", ignore);
    this.#stdout.on("error", ignore);
    this.#stdin.pause();
    if (this.#stdin.isTTY) this.#stdin.setRawMode(false);
  }

  /** Whether the guest has written something behind its last newline. */
  get isLineOpen(): boolean {
    return this.#last !== NEWLINE;
  }

  write(byte: number): void {
    this.#last = byte;
    this.#output.write(byte);
  }

  flush(): void {
    this.#output.flush();
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#input.connect(receive);
  }

  resume(): void {
    this.#input.resume();
  }

  watchRoom(listener: (hasRoom: boolean) => void): void {
    this.#onRoom = listener;
    listener(this.#hasRoom);
  }

  #sayLoss(): void {
    const lost = this.#lostBytes;
    this.#lostBytes = 0;
    if (lost > 0) this.#onLoss(lost);
  }

  #sayRoom(): void {
    const hasRoom = this.#stdout.writableLength <= UNREAD;
    if (hasRoom === this.#hasRoom) return;
    this.#hasRoom = hasRoom;
    this.#onRoom(hasRoom);
  }
}
