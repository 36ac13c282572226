import type { Socket } from "node:net";
import type { HostStream, HostStreamListener } from "../contracts/index.ts";
import { InputQueue } from "./input-queue.ts";

/** Input that waits before the socket is no longer read. */
const MOST_WAITING = 65_536;

/** Sockets whose guest has gone, with what it had written to them: so many, and the oldest give way. */
const MOST_CLOSING = 64;

export class ClosingSockets {
  readonly #sockets = new Set<Socket>();

  add(socket: Socket): void {
    if (socket.destroyed || this.#sockets.has(socket)) return;
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    for (const oldest of this.#sockets) {
      if (this.#sockets.size <= MOST_CLOSING) return;
      this.#sockets.delete(oldest);
      oldest.destroy();
    }
  }
}

/** A stream of a vsock device over a Unix socket whose halves close apart. */
export class UnixStream implements HostStream {
  readonly #socket: Socket;
  readonly #input: InputQueue;
  #listener: HostStreamListener | undefined;
  readonly #closing: ClosingSockets;
  /** The socket's input has ended, and the guest has not taken all of it. */
  #hasEnded = false;
  #isClosed = false;

  /** @param socket made with `allowHalfOpen` */
  constructor(socket: Socket, closing: ClosingSockets) {
    this.#socket = socket;
    this.#closing = closing;
    this.#input = new InputQueue((waiting) => {
      if (waiting > MOST_WAITING) socket.pause();
      else socket.resume();
      if (waiting === 0 && this.#hasEnded) this.#end();
    });
  }

  /** @param early input that has been read already */
  listen(listener: HostStreamListener, early: Uint8Array = new Uint8Array(0)): void {
    this.#listener = listener;
    this.#socket.on("connect", () => this.#listener?.connected());
    this.#socket.on("error", () => undefined); // `close` follows
    this.#socket.on("close", () => {
      this.#isClosed = true;
      if (!this.#hasEnded) this.#forget()?.closed();
    });
    this.#socket.on("data", (bytes) => {
      if (this.#listener !== undefined) this.#input.push(bytes);
    });
    this.#socket.on("end", () => {
      this.#hasEnded = true;
      if (this.#input.length === 0) this.#end();
    });
    this.#input.push(early);
    this.#input.connect((bytes) => this.#listener?.receive(bytes) ?? bytes.length);
  }

  accepted(port: number): void {
    this.#socket.write(`OK ${port}\n`);
  }

  write(bytes: Uint8Array): void {
    const { length } = bytes;
    // A copy: the socket reads it later, when the guest may have put something else there.
    this.#socket.write(bytes.slice(), (error) => {
      if (error === undefined || error === null) this.#listener?.written(length);
    });
  }

  end(): void {
    this.#socket.end();
  }

  close(): void {
    this.#forget();
    this.#closing.add(this.#socket);
    this.#socket.end(() => this.#socket.destroy());
    this.#socket.resume();
  }

  resume(): void {
    this.#input.resume();
  }

  #end(): void {
    this.#hasEnded = false;
    this.#listener?.ended();
    if (this.#isClosed) this.#forget()?.closed();
  }

  #forget(): HostStreamListener | undefined {
    const listener = this.#listener;
    this.#listener = undefined;
    return listener;
  }
}
