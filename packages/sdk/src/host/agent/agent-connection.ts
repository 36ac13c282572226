import { RingBufferBackend } from "@northbridge/core";
import { type CharEnd, NorthbridgeError } from "@northbridge/core/contracts";
import { encodeRequest, exitStatus, Frame, FrameReader } from "./protocol.ts";

/** What a command in the guest gave. */
export interface CommandOutcome {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** As the shell counts: 128 and the signal where one ended it. */
  readonly status: number;
}

/** The host's end of the agent's port: sends one command at a time and collects what comes back. */
export class AgentConnection implements CharEnd {
  readonly #input = new RingBufferBackend(1);
  readonly #reader = new FrameReader();
  #bytes: number[] = [];
  readonly #stdout: Uint8Array[] = [];
  readonly #stderr: Uint8Array[] = [];
  readonly #hello = Promise.withResolvers<undefined>();
  #running: PromiseWithResolvers<CommandOutcome> | undefined;

  /** Resolves when the agent says that it is there. */
  get hello(): Promise<undefined> {
    return this.#hello.promise;
  }

  /** Runs a command in the guest's shell, as soon as the one before it has ended. */
  run(command: string, input: Uint8Array): Promise<CommandOutcome> {
    if (this.#running !== undefined) {
      throw new NorthbridgeError("NB_LIFECYCLE", `exec: ${command}: the command before it has not ended`);
    }
    const request = encodeRequest(command, input);
    const running = Promise.withResolvers<CommandOutcome>();
    this.#running = running;
    this.#input.send(request);
    return running.promise;
  }

  write(byte: number): void {
    this.#bytes.push(byte);
    // Frames are looked for when a piece is there, not at each of its bytes.
    if (this.#bytes.length === 1) queueMicrotask(this.#take);
  }

  flush(): void {
    this.#take();
  }

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#input.connect(receive);
  }

  resume(): void {
    this.#input.resume();
  }

  readonly #take = (): void => {
    if (this.#bytes.length === 0) return;
    this.#reader.push(Uint8Array.from(this.#bytes));
    this.#bytes = [];
    for (let frame = this.#reader.take(); frame !== undefined; frame = this.#reader.take()) {
      switch (frame.kind) {
        case Frame.HELLO:
          this.#hello.resolve(undefined);
          break;
        case Frame.STDOUT:
          this.#stdout.push(frame.bytes);
          break;
        case Frame.STDERR:
          this.#stderr.push(frame.bytes);
          break;
        case Frame.EXIT: {
          const running = this.#running;
          this.#running = undefined;
          running?.resolve({
            stdout: Buffer.concat(this.#stdout.splice(0)),
            stderr: Buffer.concat(this.#stderr.splice(0)),
            status: exitStatus(frame.bytes),
          });
        }
      }
    }
  };
}
