import { connect, type Server, type Socket } from "node:net";
import { type NetBackend, NorthbridgeError } from "@northbridge/sdk";
import { checkMtu } from "../link/frame.ts";
import { checkSocketPath, listenAt } from "./listen.ts";
import { StreamLink } from "./stream-link.ts";

/** Options of `stream()`: a Unix socket, or a TCP port. */
export interface StreamOptions {
  /** A Unix socket. */
  readonly path?: string | undefined;
  /** @defaultValue `"127.0.0.1"` */
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  /** Whether to listen for the peer instead of connecting to it. @defaultValue false */
  readonly listen?: boolean | undefined;
  /** Milliseconds until a peer that went is looked for again. @defaultValue never */
  readonly reconnectMs?: number | undefined;
  /** @defaultValue 1500 */
  readonly mtu?: number | undefined;
}

/** A timer of the host's takes no more. */
const LONGEST_WAIT_MS = 0x7fff_ffff;

/** Where a socket is: for `node:net`, and for people. */
export function socketAddress(
  options: Pick<StreamOptions, "path" | "host" | "port">,
  smallestPort: number,
): {
  readonly at: { path: string } | { host: string; port: number };
  readonly text: string;
  readonly name: string;
} {
  const { path, host = "127.0.0.1", port } = options;
  if (path !== undefined) {
    if (port !== undefined)
      throw new NorthbridgeError("NB_CONFIG", "path: expected a path or a port, found both");
    checkSocketPath(path, "path");
    return { at: { path }, text: path, name: "path" };
  }
  if (port === undefined || !Number.isInteger(port) || port < smallestPort || port > 65_535) {
    const found = port === undefined ? "neither" : String(port);
    throw new NorthbridgeError(
      "NB_CONFIG",
      `port: expected a path, or a port from ${smallestPort} to 65535, found ${found}`,
    );
  }
  return { at: { host, port }, text: `${host}:${port}`, name: "port" };
}

/** Listens; a Unix socket that a process left behind makes way. Throws `NB_HOST`. */
export async function listenOn(
  options: Pick<StreamOptions, "path" | "host" | "port">,
  onPeer: (socket: Socket) => void,
): Promise<Server> {
  const { at, text, name } = socketAddress(options, 0);
  const refusal = (error: NodeJS.ErrnoException): NorthbridgeError => {
    const reason = error.code === "EADDRINUSE" ? "somebody listens there already" : error.message;
    return new NorthbridgeError("NB_HOST", `${name}: cannot listen on ${text}: ${reason}`, { cause: error });
  };
  return listenAt(at, {}, { onPeer, name, refusal });
}

/** A link to one peer over a stream socket, in the framing of QEMU and passt. */
export class StreamNet implements NetBackend {
  readonly #options: StreamOptions;
  readonly #link: StreamLink;
  #server: Server | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  private constructor(options: StreamOptions) {
    this.#options = options;
    this.#link = new StreamLink(checkMtu(options.mtu), () => {
      this.#lookAgain();
    });
  }

  /** Connects, or listens. Throws `NB_CONFIG`, or `NB_HOST` where the host refuses or nobody listens. */
  static async open(options: StreamOptions): Promise<StreamNet> {
    const { reconnectMs = 1 } = options;
    if (!Number.isInteger(reconnectMs) || reconnectMs < 1 || reconnectMs > LONGEST_WAIT_MS) {
      const expected = `a whole number from 1 to ${LONGEST_WAIT_MS}`;
      throw new NorthbridgeError("NB_CONFIG", `reconnectMs: expected ${expected}, found ${reconnectMs}`);
    }
    const net = new StreamNet(options);
    if (options.listen === true) {
      net.#server = await listenOn(options, (socket) => {
        // One peer at a time: a second would hear half of everything.
        if (net.#link.isUp) socket.destroy();
        else net.#link.attach(socket);
      });
    } else {
      const { text, name } = socketAddress(options, 1);
      await net.#connect().catch((error: unknown) => {
        if (options.reconnectMs !== undefined) {
          net.#lookAgain();
          return;
        }
        const reason = error instanceof Error ? error.message : String(error);
        const remedy = "start the peer first, or set reconnectMs";
        throw new NorthbridgeError("NB_HOST", `${name}: cannot connect to ${text}: ${reason}: ${remedy}`, {
          cause: error,
        });
      });
    }
    return net;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  /** The TCP port that is listened on. */
  get port(): number {
    const bound = this.#server?.address();
    return bound !== null && typeof bound === "object" ? bound.port : 0;
  }

  get stats(): Readonly<Record<string, number>> {
    return { isConnected: Number(this.#link.isUp), framesUnsent: this.#link.framesDropped };
  }

  send(frame: readonly Uint8Array[]): boolean {
    return this.#link.send(frame);
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#link.connect(receive, onWritable);
  }

  resume(): void {
    this.#link.resume();
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.#link.watchLink(listener);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    await this.#link.close();
    const server = this.#server;
    if (server === undefined) return;
    await new Promise<void>((resolve) => {
      server.close(() => {
        resolve();
      });
    });
  }

  #connect(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(socketAddress(this.#options, 1).at);
      socket.once("error", reject);
      socket.once("connect", () => {
        if (this.#isClosed) socket.destroy();
        else this.#link.attach(socket);
        resolve();
      });
    });
  }

  #lookAgain(): void {
    const { listen, reconnectMs } = this.#options;
    if (this.#isClosed || listen === true || reconnectMs === undefined) return;
    this.#retry = setTimeout(() => {
      this.#connect().catch(() => {
        this.#lookAgain();
      });
    }, reconnectMs);
    this.#retry.unref();
  }
}

/** Joins a peer over a stream socket: passt, `-netdev stream` of QEMU, a `switch` or a `stream` of ours. */
export function stream(options: StreamOptions): Promise<StreamNet> {
  return StreamNet.open(options);
}
