import { createSocket, type Socket } from "node:dgram";
import { Alarm } from "../scheduler.ts";
import type { Ip } from "../wire/ip.ts";
import type { Destination } from "./destinations.ts";
import type { UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";

const MOST_FLOWS = 512;
const MOST_PEERS = 64;
/** RFC 4787 REQ-5: not less than two minutes. */
const IDLE_MS = 120_000;
const MOST_QUEUED_BYTES = 1 << 20;

interface UdpFlow {
  readonly socket: Socket;
  readonly idle: Alarm;
  /** Address and port on the host's side → what the guest calls them. A peer that is not here is not heard. */
  readonly peers: Map<string, { readonly address: Ip; readonly port: number }>;
}

/** UDP of guests to the outside: one host socket for each port of a guest, filtered by address and port (RFC 4787 §5). */
export class UdpFlows {
  readonly #writer: PacketWriter;
  readonly #network: UserNetwork;
  readonly #flows = new Map<string, UdpFlow>();

  constructor(network: UserNetwork, writer: PacketWriter) {
    this.#network = network;
    this.#writer = writer;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** Sends a datagram of a guest, which called its peer `address`:`port`, to `destination`. */
  send(
    guest: Ip,
    guestPort: number,
    address: Ip,
    port: number,
    destination: Destination,
    payload: Uint8Array,
  ): void {
    if (destination.path !== undefined) return;
    const family = destination.address.includes(":") ? "udp6" : "udp4";
    const flow = this.#flowOf(guest, guestPort, family);
    const peer = `${destination.address}:${destination.port}`;
    if (!flow.peers.has(peer)) {
      if (flow.peers.size >= MOST_PEERS) flow.peers.delete(firstKey(flow.peers));
      flow.peers.set(peer, { address, port });
    }
    flow.idle.arm(IDLE_MS);
    if (flow.socket.getSendQueueSize() > MOST_QUEUED_BYTES) return;
    flow.socket.send(payload.slice(), destination.port, destination.address, ignoreError);
  }

  close(): void {
    for (const key of this.#flows.keys()) this.#end(key);
  }

  #flowOf(guest: Ip, guestPort: number, family: "udp4" | "udp6"): UdpFlow {
    const key = `${guest}:${guestPort}:${family}`;
    const known = this.#flows.get(key);
    if (known !== undefined) return known;
    if (this.#flows.size >= MOST_FLOWS) this.#end(firstKey(this.#flows));
    const socket = createSocket(family);
    const flow: UdpFlow = {
      socket,
      peers: new Map(),
      idle: new Alarm(this.#network.scheduler, () => {
        this.#end(key);
      }),
    };
    this.#flows.set(key, flow);
    socket.on("error", () => {
      this.#end(key);
    });
    socket.on("message", (payload, from) => {
      const peer = flow.peers.get(`${from.address}:${from.port}`);
      if (peer === undefined) return;
      flow.idle.arm(IDLE_MS);
      this.#writer.udp(peer.address, peer.port, guest, guestPort, payload);
    });
    return flow;
  }

  #end(key: string): void {
    const flow = this.#flows.get(key);
    if (flow === undefined) return;
    this.#flows.delete(key);
    flow.idle.close();
    flow.socket.close();
  }
}

/** A datagram that the host cannot send is a datagram lost. */
function ignoreError(): void {
  /* UDP promises nothing. */
}

function firstKey(map: ReadonlyMap<string, unknown>): string {
  return map.keys().next().value ?? "";
}

/** Datagrams from a port of the host to a guest, and its answers back. */
export class UdpForward {
  readonly socket: Socket;
  readonly #guest: Ip;
  readonly #guestPort: number;
  readonly #clients = new Map<string, number>();
  readonly #ports = new Map<number, { readonly address: string; readonly port: number }>();
  #nextPort = 49_152;

  constructor(
    network: UserNetwork,
    writer: PacketWriter,
    guest: Ip,
    guestPort: number,
    family: "udp4" | "udp6",
  ) {
    this.#guest = guest;
    this.#guestPort = guestPort;
    this.socket = createSocket(family);
    const gateway = typeof guest === "number" ? network.gateway : (network.v6?.gateway ?? "");
    this.socket.on("message", (payload, from) => {
      const port = this.#portOf(from.address, from.port);
      writer.udp(gateway, port, this.#guest, this.#guestPort, payload);
    });
  }

  /** Takes an answer of the guest to the gateway. False where no client is behind `port`. */
  answer(guest: Ip, guestPort: number, port: number, payload: Uint8Array): boolean {
    const client = this.#ports.get(port);
    if (client === undefined || guest !== this.#guest || guestPort !== this.#guestPort) return false;
    this.socket.send(payload.slice(), client.port, client.address, ignoreError);
    return true;
  }

  /** A port of the gateway stands for each client; the oldest of 4096 is taken again. */
  #portOf(address: string, port: number): number {
    const key = `${address}:${port}`;
    const known = this.#clients.get(key);
    if (known !== undefined) return known;
    const taken = this.#nextPort;
    this.#nextPort = taken === 53_247 ? 49_152 : taken + 1;
    const old = this.#ports.get(taken);
    if (old !== undefined) this.#clients.delete(`${old.address}:${old.port}`);
    this.#clients.set(key, taken);
    this.#ports.set(taken, { address, port });
    return taken;
  }
}
