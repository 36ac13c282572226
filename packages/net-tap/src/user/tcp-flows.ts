import { randomBytes } from "node:crypto";
import { createConnection, type OnReadOpts, type Socket } from "node:net";
import { ByteRing } from "../tcp/byte-ring.ts";
import { ByteStore } from "../tcp/byte-store.ts";
import type { OutgoingSegment, TcpEndpointOptions, TcpOutput } from "../tcp/contract.ts";
import type { Segment } from "../tcp/segment.ts";
import { advance, distance } from "../tcp/sequence.ts";
import type { Ip } from "../wire/ip.ts";
import { Ip6 } from "../wire/spec6.ts";
import { Dns, Ip4, Tcp, TcpFlag } from "../wire/spec.ts";
import type { Destination, Destinations } from "./destinations.ts";
import { type DnsForwarder } from "./dns-forwarder.ts";
import { dnsStream } from "./dns-stream.ts";
import type { GuestLink } from "./link.ts";
import type { UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";
import { type HostStream, TcpFlow } from "./tcp-flow.ts";

const RECEIVE_BUFFER_BYTES = 256 * 1024;
const SEND_BUFFER_BYTES = 1024 * 1024;
/** What one look at a socket takes: large frames of full segments, four of them over IPv4 at an MTU of 1500, with timestamps. */
const READ_BYTES = 4 * 44 * 1448;
const CONNECT_MS = 30_000;

/** All TCP connections of a back end: the table, the opening of each, and who may send next. */
export class TcpFlows {
  readonly #network: UserNetwork;
  readonly #destinations: Destinations;
  readonly #dns: DnsForwarder;
  readonly #writer: PacketWriter;
  readonly #link: GuestLink;
  readonly #most: number;
  readonly #flows = new Map<string, TcpFlow>();
  readonly #store = new ByteStore();
  readonly #noData = new ByteRing(0, this.#store);
  /** All sockets read here: what is read is copied at once. */
  readonly #readBuffer = new Uint8Array(READ_BYTES);
  readonly #awake = new Set<{ flush(): void }>();
  /** Those that found no room on the way to the guest, in turn. */
  readonly #stalled = new Set<{ flush(): void }>();
  #scheduled = false;
  #nextPort = 49_152;

  constructor(
    network: UserNetwork,
    destinations: Destinations,
    dns: DnsForwarder,
    writer: PacketWriter,
    link: GuestLink,
    mostConnections: number,
  ) {
    this.#network = network;
    this.#destinations = destinations;
    this.#dns = dns;
    this.#writer = writer;
    this.#link = link;
    this.#most = mostConnections;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** A segment of `guest` to `address`. */
  receive(guest: Ip, address: Ip, segment: Segment): void {
    const key = keyOf(guest, segment.sourcePort, address, segment.destinationPort);
    const flow = this.#flows.get(key);
    const endpoint = flow?.endpoint;
    const opens = (segment.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST)) === TcpFlag.SYN;
    if (endpoint !== undefined) {
      const again =
        endpoint.state === "TIME_WAIT" && opens && distance(segment.sequence, endpoint.receiveNext) >= 0;
      // One that is over waits only for the host to read.
      const isOver = endpoint.state === "CLOSED";
      if (!again && !isOver) {
        endpoint.receive(segment);
        return;
      }
      if (again) flow?.dispose();
      this.#flows.delete(key);
    } else if (flow !== undefined) {
      // The host is still connecting: the guest's SYN came again, or it gave up.
      if ((segment.flags & TcpFlag.RST) !== 0) this.#forget(key, flow);
      return;
    }
    if (opens) this.#open(key, guest, address, segment);
    else this.#refuse(guest, address, segment);
  }

  /** A client of the host, for the guest's `port`. */
  forward(socket: HostStream, guest: Ip, port: number): void {
    const gateway = this.#gatewayFor(guest);
    const local = this.#freePort(guest, port);
    if (local === undefined || this.#flows.size >= this.#most) {
      if (socket.resetAndDestroy === undefined) socket.destroy();
      else socket.resetAndDestroy();
      return;
    }
    const key = keyOf(guest, port, gateway, local);
    const flow = new TcpFlow(socket, this.#store, () => {
      this.#remove(key, flow);
    });
    this.#flows.set(key, flow);
    flow.connect(this.#output(guest, port, gateway, local), this.#endpointOptions(guest));
  }

  /** The guest reads again: whoever has something to say goes on. */
  resume(): void {
    for (const endpoint of this.#stalled) this.#awake.add(endpoint);
    this.#stalled.clear();
    this.#schedule();
  }

  close(): void {
    for (const flow of this.#flows.values()) flow.dispose();
    this.#flows.clear();
    this.#awake.clear();
    this.#stalled.clear();
  }

  #open(key: string, guest: Ip, address: Ip, segment: Segment): void {
    const { sourcePort, destinationPort } = segment;
    if (this.#flows.size >= this.#most) {
      this.#refuse(guest, address, segment);
      return;
    }
    const { dns, v6 } = this.#network;
    const output = this.#output(guest, sourcePort, address, destinationPort);
    if (destinationPort === Dns.PORT && (address === dns || address === v6?.dns)) {
      const flow = new TcpFlow(dnsStream(this.#dns), this.#store, () => {
        this.#remove(key, flow);
      });
      this.#flows.set(key, flow);
      flow.accept(output, this.#endpointOptions(guest), segment);
      return;
    }
    const destination = this.#destinations.find("tcp", guest, sourcePort, address, destinationPort);
    if (destination === undefined) {
      this.#refuse(guest, address, segment);
      return;
    }
    const syn = { ...segment };
    const socket = connectTo(destination, {
      buffer: this.#readBuffer,
      callback: (length, bytes) => {
        flow.take(bytes.subarray(0, length));
        return true;
      },
    });
    socket.setTimeout(CONNECT_MS, () => socket.destroy());
    const flow = new TcpFlow(socket, this.#store, () => {
      this.#remove(key, flow);
      if (flow.endpoint === undefined) this.#refuse(guest, address, syn);
    });
    this.#flows.set(key, flow);
    socket.once("connect", () => {
      socket.setTimeout(0);
      flow.accept(output, this.#endpointOptions(guest), syn);
    });
  }

  #remove(key: string, flow: TcpFlow): void {
    if (this.#flows.get(key) === flow) this.#flows.delete(key);
  }

  #forget(key: string, flow: TcpFlow): void {
    this.#flows.delete(key);
    flow.dispose();
  }

  #gatewayFor(guest: Ip): Ip {
    return typeof guest === "number" ? this.#network.gateway : (this.#network.v6?.gateway ?? "");
  }

  /** The answer of a port where nobody listens (RFC 9293 §3.10.7.1). */
  #refuse(guest: Ip, address: Ip, segment: Segment): void {
    if ((segment.flags & TcpFlag.RST) !== 0) return;
    const length =
      segment.payload.length +
      ((segment.flags & TcpFlag.SYN) === 0 ? 0 : 1) +
      ((segment.flags & TcpFlag.FIN) === 0 ? 0 : 1);
    const hasAck = (segment.flags & TcpFlag.ACK) !== 0;
    const reset: OutgoingSegment = {
      sequence: hasAck ? segment.acknowledgment : 0,
      acknowledgment: hasAck ? 0 : advance(segment.sequence, length),
      flags: hasAck ? TcpFlag.RST : TcpFlag.RST | TcpFlag.ACK,
      window: 0,
      syn: undefined,
      sack: [],
      hasTimestamp: false,
      timestamp: 0,
      echo: 0,
    };
    this.#writer.tcp(
      address,
      segment.destinationPort,
      guest,
      segment.sourcePort,
      reset,
      this.#noData,
      0,
      0,
      0,
    );
  }

  #endpointOptions(guest: Ip): TcpEndpointOptions {
    const header = typeof guest === "number" ? Ip4.HEADER_LENGTH : Ip6.HEADER_LENGTH;
    return {
      mss: this.#network.mtu - header - Tcp.HEADER_LENGTH,
      receiveBuffer: RECEIVE_BUFFER_BYTES,
      sendBuffer: SEND_BUFFER_BYTES,
      store: this.#store,
      initialSequence: randomBytes(4).readUInt32LE(),
      keepAliveMs: 600_000,
      keepAliveProbes: 5,
      timeWaitMs: 5000,
      mostRetransmissions: 12,
    };
  }

  #output(guest: Ip, guestPort: number, address: Ip, port: number): TcpOutput {
    const writer = this.#writer;
    return {
      scheduler: this.#network.scheduler,
      hasRoom: () => this.#link.hasRoom(),
      mostBytes: (mss) => writer.mostTcpBytes(guest, mss),
      transmit(segment, data, offset, length, mss) {
        writer.tcp(address, port, guest, guestPort, segment, data, offset, length, mss);
      },
      wake: (endpoint) => {
        this.#awake.add(endpoint);
        this.#schedule();
      },
    };
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#network.scheduler.soon(() => {
      this.#scheduled = false;
      const awake = [...this.#awake];
      this.#awake.clear();
      let last: { flush(): void } | undefined;
      for (const endpoint of awake) {
        if (this.#link.hasRoom()) {
          endpoint.flush();
          if (!this.#link.hasRoom()) last = endpoint;
        } else this.#stalled.add(endpoint);
      }
      // Who took the last room comes behind those who had none.
      if (last !== undefined) this.#stalled.add(last);
    });
  }

  #freePort(guest: Ip, port: number): number | undefined {
    for (let tries = 0; tries < 16_384; tries += 1) {
      const candidate = this.#nextPort;
      this.#nextPort = candidate === 65_535 ? 49_152 : candidate + 1;
      if (!this.#flows.has(keyOf(guest, port, this.#gatewayFor(guest), candidate))) return candidate;
    }
    return undefined;
  }
}

function connectTo(destination: Destination, onread: OnReadOpts): Socket {
  const options = { allowHalfOpen: true, onread };
  if (destination.path !== undefined) return createConnection({ ...options, path: destination.path });
  return createConnection({ ...options, host: destination.address, port: destination.port });
}

function keyOf(guest: Ip, guestPort: number, address: Ip, port: number): string {
  return `${guest}:${guestPort}>${address}:${port}`;
}
