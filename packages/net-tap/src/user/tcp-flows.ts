import { randomBytes } from "node:crypto";
import { createConnection, type OnReadOpts, type Socket } from "node:net";
import { ByteRing } from "../tcp/byte-ring.ts";
import { ByteStore } from "../tcp/byte-store.ts";
import type { OutgoingSegment, TcpEndpointOptions, TcpOutput } from "../tcp/contract.ts";
import type { Segment } from "../tcp/segment.ts";
import { advance, distance } from "../tcp/sequence.ts";
import type { ScheduledTimer } from "../scheduler.ts";
import type { Ip } from "../wire/ip.ts";
import { Ip6 } from "../wire/spec6.ts";
import { Dns, Ip4, Tcp, TcpFlag } from "../wire/spec.ts";
import type { Destination, Destinations } from "./destinations.ts";
import { type DnsForwarder } from "./dns-forwarder.ts";
import { DnsStream } from "./dns-stream.ts";
import { type HostStream, resetStream } from "./host-stream.ts";
import type { GuestLink } from "./link.ts";
import { isOwnAddress, type UserNetwork } from "./options.ts";
import type { PacketWriter } from "./packet-writer.ts";
import { TcpFlow } from "./tcp-flow.ts";

/**
 * What guests may have sent that no host has read: this for each connection, but all windows together are `SHARED`, and
 * then the least for each. The windows of 4096 connections that were opened one by one come to a quarter of a GiB.
 */
const RECEIVE_BYTES = { MOST: 256 * 1024, LEAST: 16 * 1024, SHARED: 64 << 20 } as const;
const SEND_BUFFER_BYTES = 1024 * 1024;
/** What one look at a socket takes: large frames of full segments, four of them over IPv4 at an MTU of 1500, with timestamps. */
const READ_BYTES = 4 * 44 * 1448;
const CONNECT_MS = 30_000;
/** How long a host may leave unread what a guest sent it on a connection that is over for the guest. */
const LINGER_MS = 600_000;

/** All TCP connections of a back end: the table, the opening of each, and who may send next. */
export class TcpFlows {
  readonly #network: UserNetwork;
  readonly #destinations: Destinations;
  readonly #dns: DnsForwarder;
  readonly #writer: PacketWriter;
  readonly #link: GuestLink;
  readonly #most: number;
  readonly #flows = new Map<string, TcpFlow>();
  /** Over for the guest, whose ports may be used again; the host still reads. They count as others do. */
  readonly #lingering = new Map<TcpFlow, ScheduledTimer>();
  readonly #store = new ByteStore();
  readonly #noData = new ByteRing(0, this.#store);
  /** All sockets read here: what is read is copied at once. */
  readonly #readBuffer = new Uint8Array(READ_BYTES);
  readonly #awake = new Set<{ flush(): void }>();
  /** Those that found no room on the way to the guest, in turn. */
  readonly #stalled = new Set<{ flush(): void }>();
  /** One for all: a connection that takes the ports of one before it has later timestamps (RFC 6191 §2). */
  readonly #timestampOffset = randomBytes(4).readUInt32LE();
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
    return this.#flows.size + this.#lingering.size;
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
      if (!again) {
        endpoint.receive(segment);
        return;
      }
      flow?.leave();
    } else if (flow !== undefined) {
      // The host is still connecting: the guest's SYN came again, or it gave up.
      if ((segment.flags & TcpFlag.RST) === 0) return;
      this.#flows.delete(key);
      flow.dispose();
      return;
    }
    if (opens) this.#open(key, guest, address, segment);
    else this.#refuse(guest, address, segment);
  }

  /** A client of the host, for the guest's `port`. */
  forward(host: HostStream, guest: Ip, port: number): void {
    const gateway = this.#gatewayFor(guest);
    const local = this.#freePort(guest, port);
    if (local === undefined || this.size >= this.#most) {
      resetStream(host);
      return;
    }
    const flow = this.#add(keyOf(guest, port, gateway, local), host);
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
    for (const [flow, timer] of this.#lingering) {
      timer.cancel();
      flow.dispose();
    }
    this.#flows.clear();
    this.#lingering.clear();
    this.#awake.clear();
    this.#stalled.clear();
  }

  #open(key: string, guest: Ip, address: Ip, segment: Segment): void {
    const { sourcePort, destinationPort } = segment;
    if (this.size >= this.#most) {
      this.#refuse(guest, address, segment);
      return;
    }
    const output = this.#output(guest, sourcePort, address, destinationPort);
    if (destinationPort === Dns.PORT && isOwnAddress(this.#network, address)) {
      const flow = this.#add(key, { kind: "local", stream: new DnsStream(this.#dns) });
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
    const kind = destination.path === undefined ? "tcp" : "local";
    const flow = this.#add(key, { kind, stream: socket }, () => {
      if (flow.endpoint === undefined) this.#refuse(guest, address, syn);
    });
    socket.once("connect", () => {
      socket.setTimeout(0);
      flow.accept(output, this.#endpointOptions(guest), syn);
    });
  }

  #add(key: string, host: HostStream, onGone?: () => void): TcpFlow {
    const flow: TcpFlow = new TcpFlow(host, this.#store, {
      onLinger: () => {
        this.#remove(key, flow);
        const timer = this.#network.scheduler.after(LINGER_MS, () => {
          this.#lingering.delete(flow);
          flow.dispose();
        });
        this.#lingering.set(flow, timer);
      },
      onGone: () => {
        this.#lingering.get(flow)?.cancel();
        this.#lingering.delete(flow);
        this.#remove(key, flow);
        onGone?.();
      },
    });
    this.#flows.set(key, flow);
    return flow;
  }

  #remove(key: string, flow: TcpFlow): void {
    if (this.#flows.get(key) === flow) this.#flows.delete(key);
    if (flow.endpoint === undefined) return;
    this.#awake.delete(flow.endpoint);
    this.#stalled.delete(flow.endpoint);
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
      receiveBuffer: RECEIVE_BYTES.MOST,
      receiveLimit: this.#receiveLimit,
      sendBuffer: SEND_BUFFER_BYTES,
      store: this.#store,
      initialSequence: randomBytes(4).readUInt32LE(),
      timestampOffset: this.#timestampOffset,
      keepAliveMs: 600_000,
      keepAliveProbes: 5,
      timeWaitMs: 5000,
      mostRetransmissions: 12,
    };
  }

  readonly #receiveLimit = (): number =>
    Math.max(RECEIVE_BYTES.LEAST, Math.floor(RECEIVE_BYTES.SHARED / Math.max(1, this.size)));

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
      let last: { flush(): void } | undefined;
      let left = this.#awake.size;
      for (const endpoint of this.#awake) {
        // One that wakes meanwhile has its turn later.
        if (left === 0) break;
        left -= 1;
        this.#awake.delete(endpoint);
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
