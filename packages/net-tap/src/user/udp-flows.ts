import { createSocket, type Socket } from "node:dgram";
import { Alarm } from "../scheduler.ts";
import { type EndpointKey, endpointKey, type Ip } from "../wire/ip.ts";
import type { Destination } from "./destinations.ts";
import type { UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";

const MOST_FLOWS = 512;
const MOST_PEERS = 64;
/** RFC 4787 REQ-5: not less than two minutes. */
export const UDP_IDLE_MS = 120_000;
const MOST_QUEUED_BYTES = 1 << 20;

type Family = "udp4" | "udp6";

/** Whom a port of a guest has sent to: what the guest calls it, and where it is. */
interface UdpPeer {
  readonly address: Ip;
  readonly port: number;
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly socket: Socket;
}

interface UdpFlow {
  readonly key: EndpointKey;
  readonly guest: Ip;
  readonly guestPort: number;
  readonly idle: Alarm;
  readonly sockets: Map<Family, Socket>;
  /** By what the guest calls them. */
  readonly peers: Map<EndpointKey, UdpPeer>;
  /** By `address:port` on the host's side. A peer that is not here is not heard. */
  readonly heard: Map<string, UdpPeer>;
}

/**
 * UDP of guests to the outside: one host socket of a family for each port of a guest, filtered by address and port
 * (RFC 4787 §5). A peer is decided upon once, when the guest first sends to it.
 */
export class UdpFlows {
  readonly #writer: PacketWriter;
  readonly #network: UserNetwork;
  readonly #flows = new Map<EndpointKey, UdpFlow>();

  constructor(network: UserNetwork, writer: PacketWriter) {
    this.#network = network;
    this.#writer = writer;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** Sends a datagram of a guest to its peer `address`:`port`. False where `open` has not been called for it. */
  send(guest: Ip, guestPort: number, address: Ip, port: number, payload: Uint8Array): boolean {
    const flow = this.#flows.get(endpointKey(guest, guestPort));
    const peer = flow?.peers.get(endpointKey(address, port));
    if (flow === undefined || peer === undefined) return false;
    flow.idle.arm(UDP_IDLE_MS);
    sendTo(peer.socket, peer.hostAddress, peer.hostPort, payload);
    return true;
  }

  /** Sends the first datagram to a peer, which is at `destination`. */
  open(
    guest: Ip,
    guestPort: number,
    address: Ip,
    port: number,
    destination: Destination,
    payload: Uint8Array,
  ): void {
    if (destination.path !== undefined) return;
    const { address: hostAddress, port: hostPort } = destination;
    const flow = this.#flowOf(guest, guestPort);
    if (flow.peers.size >= MOST_PEERS) forget(flow, firstKey(flow.peers));
    const socket = this.#socketOf(flow, hostAddress.includes(":") ? "udp6" : "udp4");
    const peer = { address, port, hostAddress, hostPort, socket };
    flow.peers.set(endpointKey(address, port), peer);
    flow.heard.set(`${hostAddress}:${hostPort}`, peer);
    this.send(guest, guestPort, address, port, payload);
  }

  close(): void {
    for (const flow of this.#flows.values()) this.#end(flow);
  }

  #flowOf(guest: Ip, guestPort: number): UdpFlow {
    const key = endpointKey(guest, guestPort);
    const known = this.#flows.get(key);
    if (known !== undefined) return known;
    const oldest = this.#flows.values().next().value;
    if (this.#flows.size >= MOST_FLOWS && oldest !== undefined) this.#end(oldest);
    const flow: UdpFlow = {
      key,
      guest,
      guestPort,
      idle: new Alarm(this.#network.scheduler, () => {
        this.#end(flow);
      }),
      sockets: new Map(),
      peers: new Map(),
      heard: new Map(),
    };
    this.#flows.set(key, flow);
    return flow;
  }

  #socketOf(flow: UdpFlow, family: Family): Socket {
    const known = flow.sockets.get(family);
    if (known !== undefined) return known;
    const socket = createSocket(family);
    flow.sockets.set(family, socket);
    socket.on("error", () => {
      this.#end(flow);
    });
    socket.on("message", (payload, from) => {
      const peer = flow.heard.get(`${from.address}:${from.port}`);
      if (peer === undefined) return;
      flow.idle.arm(UDP_IDLE_MS);
      this.#writer.udp(peer.address, peer.port, flow.guest, flow.guestPort, payload);
    });
    return socket;
  }

  #end(flow: UdpFlow): void {
    if (this.#flows.get(flow.key) !== flow) return;
    this.#flows.delete(flow.key);
    flow.idle.close();
    for (const socket of flow.sockets.values()) socket.close();
  }
}

function forget(flow: UdpFlow, key: EndpointKey): void {
  const peer = flow.peers.get(key);
  flow.peers.delete(key);
  if (peer === undefined) return;
  const text = `${peer.hostAddress}:${peer.hostPort}`;
  if (flow.heard.get(text) === peer) flow.heard.delete(text);
}

function firstKey(map: ReadonlyMap<EndpointKey, unknown>): EndpointKey {
  return map.keys().next().value ?? "";
}

/** Sends a copy of `payload`. What the host cannot send, or not soon, is lost: UDP promises nothing. */
export function sendTo(socket: Socket, address: string, port: number, payload: Uint8Array): void {
  if (socket.getSendQueueSize() > MOST_QUEUED_BYTES) return;
  socket.send(payload.slice(), port, address, ignoreError);
}

function ignoreError(): void {
  /* Lost. */
}
