import { once } from "node:events";
import { fstatSync, lstatSync, statSync, unlinkSync } from "node:fs";
import type { Server } from "node:net";
import { dirname, resolve } from "node:path";
import { DirectoryLock } from "./directory-lock.ts";
import { close, open, OpenFlag } from "./files.ts";
import { hasSystemCalls } from "./libc.ts";
import { bindUnixDatagrams, listenUnix, probeUnix } from "./sockets.ts";
import { SystemCallError } from "./system-call-error.ts";

/** `struct sockaddr_un` (unix(7)), less the byte that ends it. */
const LONGEST_PATH = 107;

/** A Unix socket cannot be had at a path. `${path}: cannot listen: ${reason}` */
export class CannotListen extends Error {
  override readonly name = "CannotListen";
  readonly code = "NB_HOST";
  readonly reason: string;

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: cannot listen: ${reason}`, options);
    this.reason = reason;
  }
}

/** What makes a path too long for a Unix socket, in words. */
export function whySocketPathTooLong(path: string): string | undefined {
  const length = new TextEncoder().encode(path).length;
  return length <= LONGEST_PATH
    ? undefined
    : `its path has ${length} bytes, and a Unix socket's may have ${LONGEST_PATH}`;
}

/** Why no socket can be had at a path, as far as a look tells, in words: who listens there it does not ask. */
export function whyNoSocketAt(path: string): string | undefined {
  const tooLong = whySocketPathTooLong(path);
  if (tooLong !== undefined) return tooLong;
  const directory = dirname(path);
  try {
    if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true)
      return `there is no directory ${directory}`;
    const found = lstatSync(path, { throwIfNoEntry: false });
    return found === undefined || found.isSocket() ? undefined : "there is a file of that name";
  } catch (error) {
    return reasonOf(error);
  }
}

/**
 * A Unix socket at a path, which a socket that nobody has any more makes way for, as a process leaves that was killed.
 * Everybody looks, binds and listens while they hold the lock of the directory: of those who start at the same moment
 * one gets it, and no live socket is ever taken away.
 */
export class ListeningSocket {
  /** Non-blocking. */
  readonly fd: number;
  readonly #path: string;
  /** Keeps the inode from being given to another file, which `remove` would take for this one. */
  #file: number | undefined;

  private constructor(path: string, fd: number) {
    this.#path = resolve(path); // the working directory may be another one at the end
    this.fd = fd;
    this.#file = open(path, OpenFlag.O_PATH | OpenFlag.O_NOFOLLOW);
  }

  /** Listens for connections at `path`. Throws `CannotListen`. */
  static at(path: string): ListeningSocket {
    return ListeningSocket.#claim(path, listenUnix);
  }

  /** Takes datagrams at `path`. Throws `CannotListen`. */
  static forDatagrams(path: string): ListeningSocket {
    return ListeningSocket.#claim(path, bindUnixDatagrams);
  }

  static #claim(path: string, bind: (path: string) => number): ListeningSocket {
    expectRoom(path);
    try {
      return locked(dirname(path), (unlocked) => {
        makeWay(path, unlocked);
        const fd = bind(path);
        try {
          return new ListeningSocket(path, fd);
        } catch (error) {
          close(fd);
          throw error;
        }
      });
    } catch (error) {
      if (error instanceof CannotListen) throw error;
      throw new CannotListen(path, reasonOf(error), { cause: error });
    }
  }

  /** Removes it from its directory, if it is what is there. Who owns `fd` closes that. */
  remove(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const own = fstatSync(file, { bigint: true });
    try {
      locked(dirname(this.#path), () => {
        const found = lstatSync(this.#path, { bigint: true, throwIfNoEntry: false });
        if (found?.dev === own.dev && found.ino === own.ino) unlinkSync(this.#path);
      });
    } catch {
      // Its directory is somebody else's by now. What is left there makes way for the next one.
    } finally {
      close(file);
    }
  }

  /** Removes it, and takes nobody any more. */
  close(): void {
    this.remove();
    close(this.fd);
  }
}

/**
 * Lets a server of Node's listen at a path, as `ListeningSocket` does. Once it has closed, its socket is gone. On a host
 * without the system calls of this package nothing makes way. Throws `CannotListen`.
 */
export async function listenAt(server: Server, path: string): Promise<void> {
  expectRoom(path);
  const socket = hasSystemCalls() ? ListeningSocket.at(path) : undefined;
  try {
    server.listen(socket === undefined ? { path } : { fd: socket.fd });
    await once(server, "listening");
  } catch (cause) {
    socket?.remove(); // the descriptor is the server's
    throw new CannotListen(path, reasonOf(cause), { cause });
  }
  server.once("close", () => socket?.remove());
}

function expectRoom(path: string): void {
  const reason = whyNoSocketAt(path);
  if (reason !== undefined) throw new CannotListen(path, reason);
}

/** Acts under the lock of a directory; without one where it cannot be had, as `act` is told with the reason. */
function locked<T>(directory: string, act: (unlocked: Error | undefined) => T): T {
  let lock: DirectoryLock | undefined;
  let unlocked: Error | undefined;
  try {
    lock = DirectoryLock.wait(directory);
  } catch (error) {
    unlocked = error as Error;
  }
  try {
    return act(unlocked);
  } finally {
    lock?.release();
  }
}

/** @param unlocked why nobody is kept from doing the same at the same time */
function makeWay(path: string, unlocked: Error | undefined): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined || !isForsaken(path)) return;
  if (unlocked !== undefined) {
    const reason = `somebody did, and left the socket; remove it, for its directory cannot be locked (${reasonOf(unlocked)})`;
    throw new CannotListen(path, reason, { cause: unlocked });
  }
  unlinkSync(path);
}

/** Whether the socket at `path` is nobody's; false where it has gone meanwhile. Throws where it is somebody's. */
function isForsaken(path: string): boolean {
  try {
    close(probeUnix(path));
  } catch (error) {
    const errno = error instanceof SystemCallError ? error.errno : "";
    if (errno === "ECONNREFUSED" || errno === "ENOENT") return errno === "ECONNREFUSED";
    if (errno !== "EAGAIN" && errno !== "EPROTOTYPE") throw error;
  }
  throw new CannotListen(path, "somebody listens there");
}

const WORDS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EADDRINUSE: "somebody listens there, or did",
  ENOSPC: "its disk is full",
  EPERM: "permission denied",
  EROFS: "its file system is read-only",
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const errno = error instanceof SystemCallError ? error.errno : "code" in error ? String(error.code) : "";
  return WORDS[errno] ?? error.message;
}
