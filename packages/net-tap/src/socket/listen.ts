import { existsSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server, type ServerOpts, type Socket } from "node:net";
import { dirname } from "node:path";
import { NorthbridgeError } from "@northbridge/sdk";

/** `struct sockaddr_un` (unix(7)), less the byte that ends it. */
const LONGEST_PATH = 107;

/** Throws `NB_CONFIG` that names `name` where a path is too long for a Unix socket. */
export function checkSocketPath(path: string, name: string): void {
  if (new TextEncoder().encode(path).length <= LONGEST_PATH) return;
  throw new NorthbridgeError("NB_CONFIG", `${name}: expected at most ${LONGEST_PATH} bytes, found ${path}`);
}

/** What `listenAt` is told of. */
export interface ListenEvents {
  readonly onPeer: (socket: Socket) => void;
  /** What is thrown where the host refuses. */
  readonly refusal: (error: NodeJS.ErrnoException) => Error;
  /** The listener could not take somebody, and goes on. */
  readonly onError?: ((error: Error) => void) | undefined;
}

/** Listens; a Unix socket that a process left behind makes way. Throws what `refusal` makes of the host's error. */
export async function listenAt(
  at: { readonly path: string } | { readonly host: string; readonly port: number },
  options: ServerOpts,
  { onPeer, refusal, onError }: ListenEvents,
): Promise<Server> {
  if ("path" in at) {
    // Node calls that a lack of rights.
    if (!existsSync(dirname(at.path)))
      throw refusal(Object.assign(new Error("there is no such directory"), { code: "ENOENT" }));
    await removeStale(at.path);
  }
  const server = createServer(options, onPeer);
  await new Promise<void>((resolve, reject) => {
    const onRefused = (error: NodeJS.ErrnoException): void => {
      reject(refusal(error));
    };
    server.once("error", onRefused);
    server.listen(at, () => {
      server.off("error", onRefused);
      // Out of descriptors or memory: who was not taken comes again. Without a listener this ends the process.
      server.on("error", onError ?? (() => undefined));
      resolve();
    });
  });
  return server;
}

/** Removes a socket file behind which nobody answers. */
async function removeStale(path: string): Promise<void> {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const isAlive = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // Anything else, such as a full backlog or a lack of rights, comes of somebody who is there.
    probe.once("error", (error: NodeJS.ErrnoException) => {
      resolve(error.code !== "ECONNREFUSED");
    });
  });
  if (!isAlive) rmSync(path, { force: true });
}
