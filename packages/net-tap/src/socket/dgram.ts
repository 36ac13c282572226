import { createSocket, type Socket } from "node:dgram";
import { type NetBackend, NorthbridgeError } from "@northbridge/sdk";
import { FrameQueue } from "../link/frame-queue.ts";
import { checkMtu, gather, lengthOf } from "../link/frame.ts";
import { hostAddress, ipFrom } from "../wire/ip.ts";
import { Ethernet } from "../wire/spec.ts";
import { UnixDgramNet } from "./unix-dgram.ts";

/** Options of `dgram()`: addresses as `host:port`, `[v6]:port` for IPv6; or both the absolute paths of Unix sockets. */
export interface DgramOptions {
  /** Where to listen. Port 0 takes a free one. */
  readonly local: string;
  /** Whom to send to, and the only one to hear. */
  readonly remote: string;
  /** @defaultValue 1500 */
  readonly mtu?: number | undefined;
}

/** What a UDP datagram over IPv4 holds. */
const LONGEST_FRAME = 65_507;
const MOST_QUEUED_BYTES = 4 << 20;

interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Frames as UDP datagrams, one each, as QEMU's `-netdev dgram` has them. */
export class DgramNet implements NetBackend {
  readonly mtu: number;
  readonly #socket: Socket;
  readonly #remote: Endpoint;
  readonly #in = new FrameQueue();
  #isClosed = false;
  framesDropped = 0;

  private constructor(socket: Socket, remote: Endpoint, mtu: number) {
    this.mtu = mtu;
    this.#socket = socket;
    this.#remote = remote;
    socket.on("error", () => {
      // A peer that is not there yet answers by ICMP: the frame is lost.
    });
    socket.on("message", (frame, from) => {
      if (from.address !== remote.host || from.port !== remote.port) return;
      if (!this.#in.offer(frame)) this.framesDropped += 1;
    });
  }

  /** Throws `NB_CONFIG`, or `NB_HOST` where the address is taken. */
  static async open(options: DgramOptions): Promise<DgramNet> {
    const { local, remote, mtu } = endpoints(options);
    const socket = createSocket(local.host.includes(":") ? "udp6" : "udp4");
    await new Promise<void>((resolve, reject) => {
      socket.once("error", (error) => {
        socket.close();
        const message = `local: cannot listen on ${options.local}: ${error.message}: choose another port`;
        reject(new NorthbridgeError("NB_HOST", message, { cause: error }));
      });
      socket.bind(local.port, local.host, resolve);
    });
    socket.removeAllListeners("error");
    return new DgramNet(socket, remote, mtu);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  send(frame: readonly Uint8Array[]): boolean {
    const length = lengthOf(frame);
    if (this.#isClosed || length > LONGEST_FRAME || this.#socket.getSendQueueSize() > MOST_QUEUED_BYTES) {
      this.framesDropped += 1;
      return true;
    }
    const bytes = new Uint8Array(length);
    gather(frame, bytes, 0);
    this.#socket.send(bytes, this.#remote.port, this.#remote.host, () => {
      /* A datagram that cannot be sent is lost. */
    });
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean): void {
    this.#in.connect(receive);
  }

  resume(): void {
    this.#in.resume();
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    return new Promise((resolve) => {
      this.#in.close();
      this.#socket.close(resolve);
    });
  }
}

function endpoint(text: string, path: string, smallestPort: number): Endpoint {
  const [, v4, v6, digits] = /^(?:([^:[\]]+)|\[(.+)\]):(\d{1,5})$/.exec(text) ?? [];
  // A remote is compared with the senders of datagrams, as the host writes them.
  const host = smallestPort === 0 ? (v4 ?? v6 ?? "") : hostAddress(v4 ?? v6 ?? "");
  const port = Number(digits ?? -1);
  if (host === undefined || ipFrom(host) === undefined || port < smallestPort || port > 65_535) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected an address such as 127.0.0.1:4444, found "${text}"`,
    );
  }
  return { host, port };
}

function endpoints(options: DgramOptions): { local: Endpoint; remote: Endpoint; mtu: number } {
  const { local: from, remote: to } = options;
  const mtu = checkMtu(options.mtu, LONGEST_FRAME - Ethernet.HEADER_LENGTH);
  const local = endpoint(from, "local", 0);
  const remote = endpoint(to, "remote", 1);
  if (local.host.includes(":") !== remote.host.includes(":")) {
    throw new NorthbridgeError("NB_CONFIG", "remote: expected the same kind of address as local");
  }
  return { local, remote, mtu };
}

/** Throws `NB_CONFIG` for all that can be wrong before the host is asked for anything. */
export function checkDgramOptions(options: DgramOptions): void {
  const { local, remote } = options;
  if (!local.startsWith("/")) endpoints(options);
  else if (!remote.startsWith("/")) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `remote: expected the path of a socket, as local has, found "${remote}"`,
    );
  } else checkMtu(options.mtu);
}

/** Joins a peer over UDP or a Unix socket: `-netdev dgram` of QEMU, or a `dgram` of ours. Throws `NB_CONFIG`, `NB_HOST`. */
export async function dgram(options: DgramOptions): Promise<DgramNet | UnixDgramNet> {
  checkDgramOptions(options);
  const { local, remote, mtu } = options;
  return local.startsWith("/") ? new UnixDgramNet(local, remote, checkMtu(mtu)) : DgramNet.open(options);
}
