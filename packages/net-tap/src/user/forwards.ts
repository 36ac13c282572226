import type { Server } from "node:net";
import { NorthbridgeError } from "@northbridge/sdk";
import { checkSocketPath, listenAt } from "../socket/listen.ts";
import { contains } from "../wire/address.ts";
import { contains6, type Ip, parseIp } from "../wire/ip.ts";
import { checkPort, isOwnAddress, type PortForward, type UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";
import type { TcpFlows } from "./tcp-flows.ts";
import { UdpForwards } from "./udp-forwards.ts";

/** Ports and Unix sockets of the host that lead to a guest. */
export class Forwards {
  readonly #network: UserNetwork;
  readonly #tcp: TcpFlows;
  readonly #servers: Server[] = [];
  readonly #udp: UdpForwards;
  readonly #ports: number[] = [];

  constructor(network: UserNetwork, tcp: TcpFlows, writer: PacketWriter) {
    this.#network = network;
    this.#tcp = tcp;
    this.#udp = new UdpForwards(network, writer);
  }

  /** Ports that are listened on, in the order of the options; 0 for a Unix socket. */
  get ports(): readonly number[] {
    return this.#ports;
  }

  /** Listens for one forward. Throws `NB_CONFIG`, or `NB_HOST` where the host refuses. */
  async open(forward: PortForward, path: string): Promise<void> {
    const { guest, guestPort, on } = parseForward(forward, path, this.#network);
    if ("path" in on) {
      await this.#listen(on, on.path, guest, guestPort, path);
      this.#ports.push(0);
      return;
    }
    const { host, port } = on;
    const where = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
    if (forward.protocol === "udp")
      this.#ports.push(await this.#bind(host, port, where, guest, guestPort, path));
    else this.#ports.push(await this.#listen(on, where, guest, guestPort, path));
  }

  /** Takes a datagram of a guest to the gateway that answers a client of ours. False where it does not. */
  answer(guest: Ip, guestPort: number, port: number, payload: Uint8Array): boolean {
    return this.#udp.answer(guest, guestPort, port, payload);
  }

  async close(): Promise<void> {
    this.#udp.close();
    await Promise.all(
      this.#servers.splice(0).map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => {
              resolve();
            });
          }),
      ),
    );
  }

  async #listen(
    on: { readonly path: string } | { readonly host: string; readonly port: number },
    where: string,
    guest: Ip,
    guestPort: number,
    path: string,
  ): Promise<number> {
    const kind = "path" in on ? "local" : "tcp";
    const server = await listenAt(
      on,
      { allowHalfOpen: true, pauseOnConnect: true },
      {
        onPeer: (stream) => {
          this.#tcp.forward({ kind, stream }, guest, guestPort);
        },
        name: path,
        refusal: (error) => refusal(path, where, error),
        onError: this.#sayOnce(path, where),
      },
    );
    this.#servers.push(server);
    const bound = server.address();
    return bound !== null && typeof bound === "object" ? bound.port : 0;
  }

  /** A listener that cannot take somebody goes on, and would say so for each. */
  #sayOnce(path: string, where: string): (error: Error) => void {
    let hasSaid = false;
    return ({ message }) => {
      if (!hasSaid) this.#network.warn(`${path}: ${where} takes nobody for now: ${message}`);
      hasSaid = true;
    };
  }

  async #bind(
    host: string,
    port: number,
    where: string,
    guest: Ip,
    guestPort: number,
    path: string,
  ): Promise<number> {
    const family = host.includes(":") ? "udp6" : "udp4";
    const socket = this.#udp.open(guest, guestPort, family);
    await new Promise<void>((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void => {
        reject(refusal(path, where, error));
      };
      socket.once("error", onError);
      socket.bind(port, host, () => {
        socket.off("error", onError);
        socket.on("error", this.#sayOnce(path, where));
        resolve();
      });
    });
    return socket.address().port;
  }
}

/** A forward, checked. */
interface ParsedForward {
  readonly guest: Ip;
  readonly guestPort: number;
  readonly on: { readonly path: string } | { readonly host: string; readonly port: number };
}

/** Throws `NB_CONFIG` that begins with the option's path. */
export function parseForward(forward: PortForward, path: string, network: UserNetwork): ParsedForward {
  const guest = guestOf(forward, path, network);
  const guestPort = checkPort(forward.guestPort, `${path}.guestPort`, 1);
  if (forward.path !== undefined) {
    if (forward.protocol === "udp" || forward.hostPort !== undefined) {
      const reason = "a Unix socket takes the place of hostPort, and carries TCP only";
      throw new NorthbridgeError("NB_CONFIG", `${path}.path: ${reason}`);
    }
    checkSocketPath(forward.path, `${path}.path`);
    return { guest, guestPort, on: { path: forward.path } };
  }
  const port = checkPort(forward.hostPort ?? -1, `${path}.hostPort`, 0);
  const host = forward.hostAddress ?? "127.0.0.1";
  parseIp(host, `${path}.hostAddress`);
  return { guest, guestPort, on: { host, port } };
}

function guestOf(forward: PortForward, path: string, network: UserNetwork): Ip {
  const { firstLease, subnet, v6 } = network;
  if (forward.guestAddress === undefined) return firstLease;
  const guest = parseIp(forward.guestAddress, `${path}.guestAddress`);
  const isInside =
    typeof guest === "number" ? contains(subnet, guest) : v6 !== undefined && contains6(v6.prefix, guest);
  const isReserved =
    isOwnAddress(network, guest) ||
    guest === subnet.network ||
    guest === (subnet.network | ~subnet.mask) >>> 0;
  if (isInside && !isReserved) return guest;
  throw new NorthbridgeError(
    "NB_CONFIG",
    `${path}.guestAddress: ${forward.guestAddress} is not an address for guests of the subnet`,
  );
}

const remedies: Readonly<Record<string, string>> = {
  EADDRINUSE: "it is taken: stop its owner, choose another, or 0 for any free port",
  EACCES: "this user may not: choose a port from 1024 on",
  EADDRNOTAVAIL: "this host has no such address",
};

function refusal(path: string, where: string, error: NodeJS.ErrnoException): NorthbridgeError {
  const reason = remedies[error.code ?? ""] ?? error.message;
  return new NorthbridgeError("NB_HOST", `${path}: cannot listen on ${where}: ${reason}`, { cause: error });
}
