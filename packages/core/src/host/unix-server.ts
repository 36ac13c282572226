import { once } from "node:events";
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { createConnection, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { NorthbridgeError } from "../contracts/index.ts";
import { fileErrorReason } from "./file-error.ts";

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
    await listen(server, path);
  } catch (error) {
    if (!(await isForsaken(path))) throw cannotListen(path, error);
    try {
      unlinkSync(path);
      await listen(server, path);
    } catch (cause) {
      throw cannotListen(path, cause);
    }
  }
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, "listening");
}

/** Whether there is a socket at `path` that refuses connections. */
async function isForsaken(path: string): Promise<boolean> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  const probe = createConnection(path);
  try {
    await once(probe, "connect");
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ECONNREFUSED";
  } finally {
    probe.destroy();
  }
}

function cannotListen(path: string, cause: unknown): NorthbridgeError {
  const found = lstatSync(path, { throwIfNoEntry: false });
  const isTaken =
    cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE" && found !== undefined;
  // A directory that is not there Node calls a lack of rights.
  const reason = !existsSync(dirname(path))
    ? `there is no directory ${dirname(path)}`
    : !isTaken
      ? fileErrorReason(cause)
      : found.isSocket()
        ? "somebody listens there"
        : "there is a file of that name";
  return new NorthbridgeError("NB_HOST", `${path}: cannot listen: ${reason}`, { cause });
}
