import { connect } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { NorthbridgeError } from "@northbridge/sdk";
import { chooseExport, type NbdConnection } from "./client-handshake.ts";
import { TransmissionFlag } from "./spec.ts";

/** Where a server listens, and what of it is wanted. */
export interface NbdClientOptions {
  /** A Unix socket; or `host` and `port`. */
  readonly path?: string;
  readonly host?: string;
  readonly port?: number;
  readonly exportName?: string;
  readonly readOnly?: boolean;
  readonly tls?: ConnectionOptions;
  /**
   * How long requests wait for a connection that was lost to come back; they are sent again then. What the server had
   * not made stable may be lost with it, where the server and not the connection went away. @defaultValue 0
   */
  readonly reconnectMs?: number;
}

/** How errors name the server. */
export const whereOf = ({ path, host, port }: NbdClientOptions): string =>
  `nbd ${path ?? `${host ?? "localhost"}:${port ?? 10809}`}`;

/** Connects and agrees on the export. */
export async function dial(options: NbdClientOptions): Promise<NbdConnection> {
  const where = whereOf(options);
  const name = options.exportName ?? "";
  const socket =
    options.path === undefined
      ? connect(options.port ?? 10809, options.host ?? "localhost")
      : connect(options.path);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (error) => {
        reject(new NorthbridgeError("NB_HOST", `${where}: ${error.message}`, { cause: error }));
      });
    });
    socket.setNoDelay(true);
    const connection = await chooseExport(socket, name, where, options.tls);
    const serverReadOnly = (connection.flags & TransmissionFlag.READ_ONLY) !== 0;
    if (serverReadOnly && options.readOnly !== true) {
      throw new NorthbridgeError("NB_CONFIG", `${where}: the export '${name}' can only be read`);
    }
    return connection;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}
