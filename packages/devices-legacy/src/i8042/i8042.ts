import type { InterruptLine, IoHandler, PowerControl, Resettable, Snapshottable } from "@northbridge/sdk";
import * as v from "valibot";
import { flag, parseState, type StateSchema, u8 } from "../state-schema.ts";
import {
  AUX_TEST_FAILED,
  Command,
  Ctr,
  INPUT_PORT,
  Keyboard,
  KEYBOARD_TEST_PASSED,
  Output,
  QUEUE_LENGTH,
  SELF_TEST_PASSED,
  Status,
  SystemControlA,
} from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface I8042StateV1 {
  readonly version: 1;
  /** Controller command byte. */
  readonly ctr: number;
  readonly selfTested: boolean;
  /** The last write went to the command port. */
  readonly lastWasCommand: boolean;
  /** Controller command that waits for its data byte, 0 is none. */
  readonly command: number;
  /** Keyboard command that waits for its data byte, 0 is none. */
  readonly keyboardCommand: number;
  readonly outputPort: number;
  /** Port 0x92 bits 1:0. */
  readonly systemControlA: number;
  /** Bytes for the guest, oldest first. */
  readonly queue: readonly number[];
}

const State: StateSchema<I8042StateV1> = v.strictObject({
  version: v.literal(1),
  ctr: u8,
  selfTested: flag,
  lastWasCommand: flag,
  command: u8,
  keyboardCommand: u8,
  outputPort: u8,
  systemControlA: u8,
  queue: v.pipe(v.array(u8), v.maxLength(QUEUE_LENGTH)),
});

type Regs = { -readonly [K in Exclude<keyof I8042StateV1, "version" | "queue">]: I8042StateV1[K] } & {
  queue: number[];
};

const powerOn = (): Regs => ({
  ctr: Ctr.KEYBOARD_INTERRUPT | Ctr.SYSTEM | Ctr.AUX_DISABLE | Ctr.TRANSLATE,
  selfTested: false,
  lastWasCommand: false,
  command: 0,
  keyboardCommand: 0,
  outputPort: Output.RESET_N | Output.A20,
  systemControlA: SystemControlA.A20,
  queue: [],
});

/** What the controller is wired to. */
export interface I8042Deps {
  /** IRQ 1, edge-triggered. */
  readonly irq: InterruptLine;
  readonly power: Pick<PowerControl, "reset">;
}

/**
 * Keyboard controller 8042 with a keyboard that nobody types on: it answers every command and sends no keys. Resets
 * the machine by command 0xFE, by the output port, and by port 0x92. Not modelled: the auxiliary port (tests as
 * absent), the A20 gate (stored, never closed), the password, RAM other than the command byte.
 */
export class I8042 implements Resettable, Snapshottable<I8042StateV1> {
  readonly #irq: InterruptLine;
  readonly #power: Pick<PowerControl, "reset">;
  #r: Regs = powerOn();
  /** Port 0x60. */
  readonly data: IoHandler = {
    read: () => this.#readData(),
    write: (_offset, _width, value) => {
      this.#r.lastWasCommand = false;
      this.#writeData(value & 0xff);
      this.#sync();
    },
  };
  /** Port 0x64. */
  readonly command: IoHandler = {
    read: () => this.#status,
    write: (_offset, _width, value) => {
      this.#r.lastWasCommand = true;
      this.#execute(value & 0xff);
      this.#sync();
    },
  };
  /** Port 0x92 (IBM PS/2 Technical Reference, "System Control Port A"). */
  readonly systemControlA: IoHandler = {
    read: () => this.#r.systemControlA,
    write: (_offset, _width, value) => {
      const rises = (value & ~this.#r.systemControlA & SystemControlA.FAST_RESET) !== 0;
      this.#r.systemControlA = value & (SystemControlA.A20 | SystemControlA.FAST_RESET);
      if (rises) this.#power.reset();
    },
  };

  constructor(deps: I8042Deps) {
    this.#irq = deps.irq;
    this.#power = deps.power;
  }

  reset(): void {
    this.#r = powerOn();
    this.#sync();
  }

  save(): I8042StateV1 {
    const { queue, ...regs } = this.#r;
    return { version: 1, ...regs, queue: [...queue] };
  }

  restore(state: I8042StateV1): void {
    const { version: _, queue, ...regs } = parseState("i8042", State, state);
    this.#r = { ...regs, queue: [...queue] };
    this.#irq.adopt(this.#level);
  }

  get #status(): number {
    const r = this.#r;
    return (
      Status.UNLOCKED |
      (r.queue.length > 0 ? Status.OUTPUT_FULL : 0) |
      (r.selfTested || (r.ctr & Ctr.SYSTEM) !== 0 ? Status.SYSTEM : 0) |
      (r.lastWasCommand ? Status.COMMAND : 0)
    );
  }

  #readData(): number {
    const byte = this.#r.queue.shift() ?? 0;
    this.#irq.set(false); // the next byte is an edge of its own
    this.#sync();
    return byte;
  }

  #writeData(value: number): void {
    const r = this.#r;
    const { command } = r;
    r.command = 0;
    switch (command) {
      case 0:
        r.ctr &= ~Ctr.KEYBOARD_DISABLE; // sending to the keyboard lets its clock go
        this.#keyboard(value);
        break;
      case Command.WRITE_RAM:
        r.ctr = value;
        break;
      case Command.WRITE_OUTPUT:
        this.#writeOutput(value);
        break;
      case Command.WRITE_KEYBOARD_BUFFER:
      case Command.WRITE_AUX_BUFFER: // without an auxiliary port the byte comes back as the keyboard's
        this.#push(value);
        break;
      default:
        break; // other RAM locations; WRITE_AUX: nobody there
    }
  }

  #execute(command: number): void {
    const r = this.#r;
    r.command = 0;
    if (command >= Command.PULSE) {
      if ((command & Output.RESET_N) === 0) this.#power.reset();
      return;
    }
    if (command >= Command.WRITE_RAM && command < Command.WRITE_RAM + 0x20) {
      r.command = command;
      return;
    }
    if (command >= Command.READ_RAM && command < Command.READ_RAM + 0x20) {
      this.#push(command === Command.READ_RAM ? r.ctr : 0);
      return;
    }
    switch (command) {
      case Command.AUX_DISABLE:
        r.ctr |= Ctr.AUX_DISABLE;
        break;
      case Command.AUX_ENABLE:
        r.ctr &= ~Ctr.AUX_DISABLE;
        break;
      case Command.AUX_TEST:
        this.#push(AUX_TEST_FAILED);
        break;
      case Command.SELF_TEST:
        r.queue.length = 0;
        r.selfTested = true;
        this.#push(SELF_TEST_PASSED);
        break;
      case Command.KEYBOARD_TEST:
        this.#push(KEYBOARD_TEST_PASSED);
        break;
      case Command.KEYBOARD_DISABLE:
        r.ctr |= Ctr.KEYBOARD_DISABLE;
        break;
      case Command.KEYBOARD_ENABLE:
        r.ctr &= ~Ctr.KEYBOARD_DISABLE;
        break;
      case Command.READ_INPUT:
        this.#push(INPUT_PORT);
        break;
      case Command.READ_OUTPUT:
        this.#push(r.outputPort | (r.queue.length > 0 ? Output.KEYBOARD_FULL : 0));
        break;
      case Command.WRITE_OUTPUT:
      case Command.WRITE_KEYBOARD_BUFFER:
      case Command.WRITE_AUX_BUFFER:
      case Command.WRITE_AUX:
        r.command = command;
        break;
      default:
        break;
    }
  }

  #writeOutput(value: number): void {
    this.#r.outputPort = value & (Output.RESET_N | Output.A20);
    if ((value & Output.RESET_N) === 0) this.#power.reset();
  }

  /** A byte to the keyboard: a command, or the data of the last one. */
  #keyboard(value: number): void {
    const r = this.#r;
    if (r.keyboardCommand !== 0) {
      const wantsSet = r.keyboardCommand === Keyboard.SCAN_CODE_SET && value === 0;
      r.keyboardCommand = 0;
      this.#push(Keyboard.ACK);
      if (wantsSet) this.#push((r.ctr & Ctr.TRANSLATE) !== 0 ? Keyboard.ID_TRANSLATED : 2);
      return;
    }
    switch (value) {
      case Keyboard.ECHO:
        this.#push(Keyboard.ECHO);
        break;
      case Keyboard.SET_LEDS:
      case Keyboard.SCAN_CODE_SET:
      case Keyboard.SET_RATE:
        r.keyboardCommand = value;
        this.#push(Keyboard.ACK);
        break;
      case Keyboard.IDENTIFY:
        this.#push(Keyboard.ACK);
        this.#push(Keyboard.ID);
        this.#push((r.ctr & Ctr.TRANSLATE) !== 0 ? Keyboard.ID_TRANSLATED : Keyboard.ID_PLAIN);
        break;
      case Keyboard.RESET:
        this.#push(Keyboard.ACK);
        this.#push(Keyboard.TEST_PASSED);
        break;
      default:
        this.#push(value >= Keyboard.SET_LEDS ? Keyboard.ACK : Keyboard.RESEND);
        break;
    }
  }

  #push(byte: number): void {
    if (this.#r.queue.length < QUEUE_LENGTH) this.#r.queue.push(byte);
  }

  /** The only place that raises the line. */
  #sync(): void {
    this.#irq.set(this.#level);
  }

  get #level(): boolean {
    return this.#r.queue.length > 0 && (this.#r.ctr & Ctr.KEYBOARD_INTERRUPT) !== 0;
  }
}
