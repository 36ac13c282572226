import { once } from "node:events";
import { createServer, type Server, type ServerOpts, type Socket } from "node:net";
import { CannotListen, listenAt as listenAtPath, whySocketPathTooLong } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";

/** Throws `NB_CONFIG` that names `name` where a path is too long for a Unix socket. */
export function checkSocketPath(path: string, name: string): void {
  const reason = whySocketPathTooLong(path);
  if (reason !== undefined) throw new NorthbridgeError("NB_CONFIG", `${name}: ${path}: ${reason}`);
}

/** `NB_HOST` for a Unix socket that cannot be had, in the words that all packages have for it. */
export const cannotListen = (name: string, cause: CannotListen): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `${name}: ${cause.message}`, { cause });

/** What `listenAt` is told of. */
export interface ListenEvents {
  readonly onPeer: (socket: Socket) => void;
  /** The option, in what is thrown. */
  readonly name: string;
  /** What is thrown where the host refuses a port. */
  readonly refusal: (error: NodeJS.ErrnoException) => Error;
  /** The listener could not take somebody, and goes on. */
  readonly onError?: ((error: Error) => void) | undefined;
}

/** Listens; a Unix socket that a process left behind makes way. Throws `NB_HOST`, or what `refusal` makes of an error. */
export async function listenAt(
  at: { readonly path: string } | { readonly host: string; readonly port: number },
  options: ServerOpts,
  { onPeer, name, refusal, onError }: ListenEvents,
): Promise<Server> {
  const server = createServer(options, onPeer);
  try {
    if ("path" in at) await listenAtPath(server, at.path);
    else {
      server.listen(at);
      await once(server, "listening");
    }
  } catch (error) {
    throw error instanceof CannotListen ? cannotListen(name, error) : refusal(error as NodeJS.ErrnoException);
  }
  // Out of descriptors or memory: who was not taken comes again. Without a listener this ends the process.
  server.on("error", onError ?? (() => undefined));
  return server;
}
