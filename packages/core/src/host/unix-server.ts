import type { Server, Socket } from "node:net";
import { CannotListen, listenAt as listenAtPath } from "@northbridge/linux";
import { NorthbridgeError } from "../contracts/index.ts";

/** How long a client may take to read the last of what it was sent. */
const GRACE_MS = 1000;

/** A server's clients, so that it can end whatever they do. */
export class Clients {
  readonly #sockets = new Set<Socket>();

  keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
  }

  /** Ends `server` and its clients: each at once where it has been sent all, and after a second whether it reads or not. */
  async close(server: Server): Promise<void> {
    const closed = new Promise<void>((done) => {
      server.close(() => {
        done();
      });
    });
    // The host keeps what was sent until the client reads it, and needs no socket here for that.
    for (const socket of this.#sockets) socket.end(() => socket.destroy());
    const timer = setTimeout(() => {
      this.destroy();
    }, GRACE_MS);
    await closed;
    clearTimeout(timer);
  }

  /** Ends the clients; what they have not read may be lost. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/**
 * Listens at a Unix socket. One that is there and that nobody listens at any more, as a process leaves that was killed,
 * gives way. Throws `NB_HOST`.
 */
export async function listenAt(server: Server, path: string): Promise<void> {
  try {
    await listenAtPath(server, path);
  } catch (cause) {
    if (cause instanceof CannotListen) throw new NorthbridgeError("NB_HOST", cause.message, { cause });
    throw cause;
  }
}
