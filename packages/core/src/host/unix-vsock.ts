import { createConnection, createServer, type Server, type Socket } from "node:net";
import type { HostStream, HostStreamListener, VsockBackend } from "../contracts/index.ts";
import { ClosingSockets, UnixStream } from "./unix-stream.ts";
import { Clients, listenAt } from "./unix-server.ts";

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
  readonly #sockets = new Clients();
  readonly #closing = new ClosingSockets();
  #accept: Accept = () => undefined;

  private constructor(path: string, server: Server) {
    this.#path = path;
    this.#server = server;
    server.on("connection", (socket) => {
      this.#sockets.keep(socket);
      this.#greet(socket);
    });
  }

  /** Listens at `path`. Throws `NB_HOST` where that fails. */
  static async listen(path: string): Promise<UnixVsock> {
    const server = createServer({ allowHalfOpen: true });
    const backend = new UnixVsock(path, server);
    await listenAt(server, path);
    return backend;
  }

  connect(port: number, listener: HostStreamListener): HostStream {
    const socket = createConnection({ path: `${this.#path}_${port}`, allowHalfOpen: true });
    this.#sockets.keep(socket);
    const stream = new UnixStream(socket, this.#closing);
    stream.listen(listener);
    return stream;
  }

  onConnect(accept: Accept): void {
    this.#accept = accept;
  }

  async close(): Promise<void> {
    this.#sockets.destroy();
    await this.#sockets.close(this.#server);
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
