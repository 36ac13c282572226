import { createServer, type Server, type Socket } from "node:net";
import type { CharBackend } from "../contracts/index.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { Clients, listenAt } from "./unix-server.ts";

const MOST_WAITING = 65_536;
/** Output a slow client may leave unread before it is dropped, with which the rest vanishes. */
const MOST_UNREAD = 1 << 20;
/** Output from which on whoever can wait is asked to. */
const UNREAD = MOST_UNREAD >> 2;
const NOTHING = new Uint8Array(0);

/**
 * A character back end behind a Unix socket. One client at a time; output without a client vanishes, and a client that
 * leaves too much unread goes: a guest that cannot wait does not.
 */
export class SocketBackend implements CharBackend {
  readonly #server: Server;
  readonly #clients = new Clients();
  readonly #output: OutputBuffer;
  readonly #input: InputQueue;
  #client: Socket | undefined;
  #onPeer: (isPresent: boolean) => void = () => undefined;
  #onRoom: (hasRoom: boolean) => void = () => undefined;
  #hasRoom = true;

  private constructor(server: Server) {
    this.#server = server;
    this.#output = new OutputBuffer((bytes) => {
      if (this.#client === undefined) return;
      if (this.#client.writableLength > MOST_UNREAD) this.#client.destroy();
      else this.#client.write(bytes);
      this.#sayRoom();
    });
    this.#input = new InputQueue((waiting) => {
      if (waiting > MOST_WAITING) this.#client?.pause();
      else this.#client?.resume();
    });
    server.on("connection", (client) => {
      this.#greet(client);
    });
  }

  /** Listens at `path`. Throws `NB_HOST` where that fails. */
  static async listen(path: string): Promise<SocketBackend> {
    const server = createServer();
    const backend = new SocketBackend(server);
    await listenAt(server, path);
    return backend;
  }

  write(byte: number): void {
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

  watchPeer(listener: (isPresent: boolean) => void): void {
    this.#onPeer = listener;
    listener(this.#client !== undefined);
  }

  watchRoom(listener: (hasRoom: boolean) => void): void {
    this.#onRoom = listener;
    listener(this.#hasRoom);
  }

  async close(): Promise<void> {
    this.flush();
    await this.#clients.close(this.#server);
  }

  #sayRoom(): void {
    const hasRoom = this.#client === undefined || this.#client.writableLength <= UNREAD;
    if (hasRoom === this.#hasRoom) return;
    this.#hasRoom = hasRoom;
    this.#onRoom(hasRoom);
  }

  #greet(client: Socket): void {
    this.#clients.keep(client);
    client.on("error", () => undefined); // `close` follows
    const before = this.#client;
    const choose = (): void => {
      if (this.#client === undefined) this.#accept(client);
      else client.end("another client is connected\r\n", () => client.destroy());
    };
    // One that is not read, for the guest takes nothing, is not heard leaving: it is written to, which fails then.
    if (before?.isPaused() !== true || before.writableLength > 0) choose();
    else {
      before.write(NOTHING, (error) => {
        if (error === undefined || error === null || before.closed) choose();
        else before.once("close", choose);
      });
    }
  }

  #accept(client: Socket): void {
    if (client.destroyed) return;
    this.#client = client;
    this.#onPeer(true);
    client.on("data", (bytes) => {
      this.#input.push(bytes);
    });
    client.on("drain", () => {
      this.#sayRoom();
    });
    client.on("close", () => {
      this.#client = undefined;
      this.#sayRoom();
      this.#onPeer(false);
    });
  }
}
