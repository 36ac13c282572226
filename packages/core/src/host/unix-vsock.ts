import { once } from "node:events";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import {
  type HostStream,
  type HostStreamListener,
  NorthbridgeError,
  type VsockBackend,
} from "../contracts/index.ts";
import { ClosingSockets, UnixStream } from "./unix-stream.ts";

/** Longest first line of a client. */
const LONGEST_LINE = 32;
const NEWLINE = 0x0a;

type Accept = (port: number, stream: HostStream) => HostStreamListener | undefined;

/**
 * Joins ports of a guest to Unix sockets, in the way of Firecracker's vsock device: a guest that connects to port 52 of
 * the host reaches a socket at `PATH_52`; a client of `PATH` that sends `CONNECT 80` and a newline reaches port 80 of
 * the guest and reads `OK`, the host's port and a newline before the guest's first byte.
 */
export class UnixVsock implements VsockBackend {
  readonly #path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #closing = new ClosingSockets();
  #accept: Accept = () => undefined;

  private constructor(path: string, server: Server) {
    this.#path = path;
    this.#server = server;
    server.on("connection", (socket) => {
      this.#keep(socket);
      this.#greet(socket);
    });
  }

  /** Listens at `path`. Throws `NB_HOST` where that fails. */
  static async listen(path: string): Promise<UnixVsock> {
    const server = createServer({ allowHalfOpen: true });
    const backend = new UnixVsock(path, server);
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

  connect(port: number, listener: HostStreamListener): HostStream {
    const socket = createConnection({ path: `${this.#path}_${port}`, allowHalfOpen: true });
    this.#keep(socket);
    const stream = new UnixStream(socket, this.#closing);
    stream.listen(listener);
    return stream;
  }

  onConnect(accept: Accept): void {
    this.#accept = accept;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((done) => {
      this.#server.close(() => {
        done();
      });
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
  }

  /** Reads the client's first line and asks the guest. */
  #greet(socket: Socket): void {
    let line = Buffer.alloc(0);
    const refuse = (): void => {
      socket.destroy();
    };
    socket.on("error", refuse);
    socket.on("end", refuse);
    const read = (bytes: Buffer): void => {
      line = Buffer.concat([line, bytes]);
      const end = line.indexOf(NEWLINE);
      if (end < 0 && line.length <= LONGEST_LINE) return;
      const match = /^CONNECT (\d{1,10})\r?$/.exec(line.toString("latin1", 0, Math.max(0, end)));
      const port = Number(match?.[1]);
      if (end > LONGEST_LINE || !(port <= 0xffff_ffff)) {
        refuse();
        return;
      }
      socket.off("data", read).off("end", refuse).off("error", refuse);
      const stream = new UnixStream(socket, this.#closing);
      const listener = this.#accept(port, stream);
      if (listener === undefined) refuse();
      else stream.listen(listener, line.subarray(end + 1));
    };
    socket.on("data", read);
  }
}
