import { createServer, type Server, type Socket } from "node:net";
import { CannotListen, listenAt } from "@northbridge/linux";
import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import { BlockOrder } from "./block-order.ts";
import { type NbdTls, negotiate } from "./handshake.ts";
import type { NbdExport } from "./nbd-export.ts";
import { serveRequests } from "./transmission.ts";

/** How {@link NbdServer.listen} listens. */
export interface NbdServerOptions {
  readonly exports: readonly NbdExport[];
  /** With certificates, only clients that use TLS are served. */
  readonly tls?: NbdTls;
  /** Hears why a connection ended early. */
  readonly onError?: (error: Error) => void;
}

/** Serves disks over the NBD protocol to any number of clients at a Unix socket. */
export class NbdServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #running = new Set<Promise<void>>();
  readonly #options: NbdServerOptions;
  /** By disk: several exports may be of the same one. */
  readonly #orders = new Map<BlockBackend, BlockOrder>();

  private constructor(options: NbdServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** @throws {@link NorthbridgeError} with code `NB_HOST` where the socket cannot be made */
  static async listen(path: string, options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    try {
      await listenAt(server.#server, path);
    } catch (cause) {
      if (cause instanceof CannotListen) throw new NorthbridgeError("NB_HOST", cause.message, { cause });
      throw cause;
    }
    return server;
  }

  /** Clients at this moment. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Hangs up on everybody, after the request that each is in. The disks stay open: they are the caller's. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#running);
    await closed;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
    const running = this.#serve(socket).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #serve(socket: Socket): Promise<void> {
    try {
      const agreed = await negotiate(socket, this.#options.exports, this.#options.tls);
      if (agreed !== undefined) await serveRequests(agreed, this.#orderOf(agreed.chosen.disk));
    } catch (error) {
      if (!(error instanceof NorthbridgeError)) throw error;
      this.#options.onError?.(error);
      socket.destroy();
    }
  }

  #orderOf(disk: BlockBackend): BlockOrder {
    const order = this.#orders.get(disk) ?? new BlockOrder(disk.blockSize);
    this.#orders.set(disk, order);
    return order;
  }
}
