import { createSocket, type Socket } from "node:dgram";
import { type EndpointKey, endpointKey, type Ip } from "../wire/ip.ts";
import type { UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";
import { sendTo, UDP_IDLE_MS } from "./udp-flows.ts";

/** Ports of the gateway that stand for clients of one server of a guest. */
const PORTS = { FIRST: 49_152, COUNT: 4096 } as const;
/** How many are looked at for one that is free before the oldest is taken from its client. */
const MOST_TRIES = 16;

interface Client {
  readonly socket: Socket;
  readonly address: string;
  readonly port: number;
  readonly key: string;
  readonly gatewayPort: number;
  heardMs: number;
}

/** A server in a guest, behind one port of the host or several. */
class ForwardedServer {
  readonly #clients = new Map<string, Client>();
  readonly #byPort = new Map<number, Client>();
  #next = 0;

  /** The client behind a port of the gateway, if it was heard lately. */
  clientAt(gatewayPort: number, nowMs: number): Client | undefined {
    const client = this.#byPort.get(gatewayPort);
    return client !== undefined && nowMs - client.heardMs < UDP_IDLE_MS ? client : undefined;
  }

  /** The port of the gateway for a client, who was heard now. */
  portOf(socket: Socket, key: string, address: string, port: number, nowMs: number): number {
    const known = this.#clients.get(key);
    if (known !== undefined) {
      known.heardMs = nowMs;
      return known.gatewayPort;
    }
    const gatewayPort = this.#freePort(nowMs);
    const old = this.#byPort.get(gatewayPort);
    if (old !== undefined) this.#clients.delete(old.key);
    const client = { socket, address, port, key, gatewayPort, heardMs: nowMs };
    this.#clients.set(key, client);
    this.#byPort.set(gatewayPort, client);
    return gatewayPort;
  }

  #freePort(nowMs: number): number {
    const first = this.#next;
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const candidate = PORTS.FIRST + ((first + tries) % PORTS.COUNT);
      if (this.clientAt(candidate, nowMs) !== undefined) continue;
      this.#next = (candidate - PORTS.FIRST + 1) % PORTS.COUNT;
      return candidate;
    }
    this.#next = (first + 1) % PORTS.COUNT;
    return PORTS.FIRST + first;
  }
}

/**
 * Datagrams from ports of the host to servers in guests, and the answers back. A port of the gateway stands for each
 * client of a server; who has been silent for two minutes is not reached any more, whatever the guest sends.
 */
export class UdpForwards {
  readonly #network: UserNetwork;
  readonly #writer: PacketWriter;
  readonly #servers = new Map<EndpointKey, ForwardedServer>();
  readonly #sockets: Socket[] = [];

  constructor(network: UserNetwork, writer: PacketWriter) {
    this.#network = network;
    this.#writer = writer;
  }

  /** A socket, to be bound, whose datagrams go to `guest`:`guestPort`. */
  open(guest: Ip, guestPort: number, family: "udp4" | "udp6"): Socket {
    const key = endpointKey(guest, guestPort);
    const server = this.#servers.get(key) ?? new ForwardedServer();
    this.#servers.set(key, server);
    const gateway = typeof guest === "number" ? this.#network.gateway : (this.#network.v6?.gateway ?? "");
    const number = this.#sockets.length;
    const socket = createSocket(family);
    this.#sockets.push(socket);
    socket.on("message", (payload, { address, port }) => {
      // RFC 768: a sender of port 0 takes no answer.
      if (port === 0) return;
      const client = `${number} ${address}:${port}`;
      const from = server.portOf(socket, client, address, port, this.#network.scheduler.nowMs());
      this.#writer.udp(gateway, from, guest, guestPort, payload);
    });
    return socket;
  }

  /** Takes an answer of a guest to the gateway. False where no client is behind `port`. */
  answer(guest: Ip, guestPort: number, port: number, payload: Uint8Array): boolean {
    const server = this.#servers.get(endpointKey(guest, guestPort));
    const client = server?.clientAt(port, this.#network.scheduler.nowMs());
    if (client === undefined) return false;
    sendTo(client.socket, client.address, client.port, payload);
    return true;
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
    this.#servers.clear();
  }
}
