import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type CharBackend, NorthbridgeError } from "../contracts/index.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputBuffer } from "./output-buffer.ts";

const MOST_WAITING = 65_536;
/** Output a slow client may leave unread before it is dropped, with which the rest vanishes. */
const MOST_UNREAD = 1 << 20;
/** Output from which on whoever can wait is asked to. */
const UNREAD = MOST_UNREAD >> 2;

/**
 * A character back end behind a Unix socket. One client at a time; output without a client vanishes, and a client that
 * leaves too much unread goes: a guest that cannot wait does not.
 */
export class SocketBackend implements CharBackend {
  readonly #server: Server;
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
      this.#accept(client);
    });
  }

  /** Listens at `path`. Throws `NB_HOST` where that fails. */
  static async listen(path: string): Promise<SocketBackend> {
    const server = createServer();
    const backend = new SocketBackend(server);
    server.listen(path);
    try {
      await once(server, "listening");
    } catch (error) {
      throw new NorthbridgeError("NB_HOST", `${path}: cannot listen: ${(error as Error).message}`, {
        cause: error,
      });
    }
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
    this.#client?.end();
    await new Promise<void>((done) => {
      this.#server.close(() => {
        done();
      });
    });
  }

  #sayRoom(): void {
    const hasRoom = this.#client === undefined || this.#client.writableLength <= UNREAD;
    if (hasRoom === this.#hasRoom) return;
    this.#hasRoom = hasRoom;
    this.#onRoom(hasRoom);
  }

  #accept(client: Socket): void {
    if (this.#client !== undefined) {
      client.end("another client is connected\r\n");
      return;
    }
    this.#client = client;
    this.#onPeer(true);
    client.on("data", (bytes) => {
      this.#input.push(bytes);
    });
    client.on("error", () => undefined);
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
