import { createServer, type Server } from "node:net";
import { type NetBackend, NorthbridgeError } from "@northbridge/sdk";
import { newSegment, parseSegment } from "../tcp/segment.ts";
import { BROADCAST, contains, type Ipv4, isGroupMac, macKey, parseIpv4 } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { addToSum, checksum, foldSum, pseudoHeaderSum } from "../wire/checksum.ts";
import { Arp, Dhcp, Dns, Ethernet, EtherType, Icmp, Ip4, Protocol, Udp } from "../wire/spec.ts";
import { Destinations } from "./destinations.ts";
import { DhcpServer } from "./dhcp-server.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { IpSender } from "./ip-sender.ts";
import { GuestLink } from "./link.ts";
import { Neighbours } from "./neighbours.ts";
import {
  checkPort,
  type PortForward,
  resolveNetwork,
  type UserNetOptions,
  type UserNetwork,
} from "./options.ts";
import { TcpFlows } from "./tcp-flows.ts";
import { UdpFlows, UdpForward } from "./udp-flows.ts";

const IP_AT = Ethernet.HEADER_LENGTH;

/** Counters of a user-mode network. */
export interface UserNetStats {
  readonly framesFromGuest: number;
  readonly framesToGuest: number;
  /** Frames of the guest that were no frames, had wrong checksums or forged sources. */
  readonly framesRefused: number;
  readonly framesDropped: number;
  readonly tcpConnections: number;
  readonly udpFlows: number;
}

/** The virtual network of a guest behind a NAT in this process: no privilege, no device of the host. */
export class UserNet implements NetBackend {
  readonly mtu: number;
  readonly #network: UserNetwork;
  readonly #link: GuestLink;
  readonly #sender: IpSender;
  readonly #neighbours: Neighbours;
  readonly #dhcp: DhcpServer;
  readonly #dns: DnsForwarder;
  readonly #destinations: Destinations;
  readonly #tcp: TcpFlows;
  readonly #udp: UdpFlows;
  readonly #servers: Server[] = [];
  readonly #udpForwards: UdpForward[] = [];
  readonly #ports: number[] = [];
  readonly #frame = new Uint8Array(Ethernet.HEADER_LENGTH + 65_535);
  readonly #segment = newSegment();
  #received = 0;
  #refused = 0;

  private constructor(options: UserNetOptions) {
    const network = resolveNetwork(options);
    this.#network = network;
    this.mtu = network.mtu;
    this.#neighbours = new Neighbours(() => network.scheduler.nowMs());
    this.#link = new GuestLink(network.scheduler, () => {
      this.#tcp.resume();
    });
    this.#sender = new IpSender(this.#link, network.gatewayMac, network.mtu, (address) =>
      address === BROADCAST ? broadcastMac : this.#neighbours.macOf(address),
    );
    this.#dhcp = new DhcpServer(network, this.#neighbours);
    this.#dns = new DnsForwarder(network);
    this.#destinations = new Destinations(network, options);
    this.#tcp = new TcpFlows(
      network,
      this.#destinations,
      this.#sender,
      this.#link,
      options.mostConnections ?? 4096,
    );
    this.#udp = new UdpFlows(network, this.#sender);
  }

  /** Makes the network and listens on its forwarded ports. Throws `NB_CONFIG`, or `NB_HOST` for a port that is taken. */
  static async open(options: UserNetOptions): Promise<UserNet> {
    const net = new UserNet(options);
    try {
      for (const [index, forward] of (options.forwards ?? []).entries()) {
        await net.#listen(forward, `forwards[${index}]`);
      }
    } catch (error) {
      await net.close();
      throw error;
    }
    return net;
  }

  /** The host ports of `forwards`, in order. */
  get forwardedPorts(): readonly number[] {
    return this.#ports;
  }

  get stats(): UserNetStats {
    return {
      framesFromGuest: this.#received,
      framesToGuest: this.#link.sentFrames,
      framesRefused: this.#refused,
      framesDropped: this.#link.droppedFrames,
      tcpConnections: this.#tcp.size,
      udpFlows: this.#udp.size,
    };
  }

  /** Takes every frame: what has no room in a host socket closes its connection's window instead. */
  send(frame: readonly Uint8Array[]): boolean {
    // One copy: the guest may change its memory while we look.
    let length = 0;
    for (const part of frame) {
      if (length + part.length > this.#frame.length) {
        this.#refused += 1;
        return true;
      }
      this.#frame.set(part, length);
      length += part.length;
    }
    this.#received += 1;
    this.#link.hold(() => {
      if (!this.#takeFrame(length)) this.#refused += 1;
    });
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, _onWritable: () => void): void {
    this.#link.connect(receive);
  }

  resume(): void {
    this.#link.resume();
  }

  async close(): Promise<void> {
    this.#link.close();
    this.#tcp.close();
    this.#udp.close();
    this.#dns.close();
    for (const forward of this.#udpForwards) forward.socket.close();
    this.#udpForwards.length = 0;
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

  #takeFrame(length: number): boolean {
    const frame = this.#frame;
    if (length < Ethernet.HEADER_LENGTH || isGroupMac(frame, Ethernet.SOURCE)) return false;
    if (!isGroupMac(frame, 0) && macKey(frame, 0) !== macKey(this.#network.gatewayMac, 0)) return true;
    switch (get16(frame, Ethernet.TYPE)) {
      case EtherType.ARP:
        return this.#takeArp(length);
      case EtherType.IPV4:
        return this.#takeIpv4(length);
      default:
        return true;
    }
  }

  #takeArp(length: number): boolean {
    const frame = this.#frame;
    if (
      length < IP_AT + Arp.LENGTH ||
      get16(frame, IP_AT + Arp.HARDWARE) !== 1 ||
      get16(frame, IP_AT + Arp.PROTOCOL) !== EtherType.IPV4 ||
      get16(frame, IP_AT + Arp.HARDWARE_LENGTH) !== 0x0604 ||
      macKey(frame, IP_AT + Arp.SENDER_MAC) !== macKey(frame, Ethernet.SOURCE)
    ) {
      return false;
    }
    const sender = get32(frame, IP_AT + Arp.SENDER_IP);
    // A probe has no sender (RFC 5227 §2.1.1): it claims nothing.
    if (sender !== 0 && !this.#isGuest(sender, IP_AT + Arp.SENDER_MAC)) return false;
    const target = get32(frame, IP_AT + Arp.TARGET_IP);
    if (get16(frame, IP_AT + Arp.OPERATION) !== Arp.REQUEST) return true;
    if (target !== this.#network.gateway && target !== this.#network.dns) return true;
    const reply = frame.slice(IP_AT, IP_AT + Arp.LENGTH);
    put16(reply, Arp.OPERATION, Arp.REPLY);
    reply.set(frame.subarray(IP_AT + Arp.SENDER_MAC, IP_AT + Arp.TARGET_MAC), Arp.TARGET_MAC);
    reply.set(this.#network.gatewayMac, Arp.SENDER_MAC);
    put32(reply, Arp.SENDER_IP, target);
    this.#sender.raw(frame.slice(Ethernet.SOURCE, Ethernet.TYPE), EtherType.ARP, reply);
    return true;
  }

  /** Whether `address` is one that a guest may have, and the card at `at` the one that has it. */
  #isGuest(address: Ipv4, at: number): boolean {
    const { subnet, gateway, dns } = this.#network;
    const last = (subnet.network | ~subnet.mask) >>> 0;
    if (!contains(subnet, address) || address === subnet.network || address === last) return false;
    if (address === gateway || address === dns) return false;
    return this.#neighbours.claim(address, this.#frame, at);
  }

  #takeIpv4(length: number): boolean {
    const frame = this.#frame;
    const headerLength = ((frame[IP_AT] ?? 0) & 15) * 4;
    const total = get16(frame, IP_AT + Ip4.TOTAL_LENGTH);
    const end = IP_AT + total;
    if (
      (frame[IP_AT] ?? 0) >>> 4 !== 4 ||
      headerLength < Ip4.HEADER_LENGTH ||
      total < headerLength ||
      end > length ||
      checksum(frame, IP_AT, IP_AT + headerLength) !== 0
    ) {
      return false;
    }
    // Fragments of the guest are not put together: see the README.
    if ((get16(frame, IP_AT + Ip4.FRAGMENT) & (Ip4.MORE_FRAGMENTS | Ip4.OFFSET_MASK)) !== 0) return false;
    const source = get32(frame, IP_AT + Ip4.SOURCE);
    const destination = get32(frame, IP_AT + Ip4.DESTINATION);
    const body = IP_AT + headerLength;
    const protocol = frame[IP_AT + Ip4.PROTOCOL];
    const isDhcp =
      protocol === Protocol.UDP && get16(frame, body + Udp.DESTINATION_PORT) === Dhcp.SERVER_PORT;
    if (!isDhcp && !this.#isGuest(source, Ethernet.SOURCE)) return false;
    if (protocol === Protocol.TCP) return this.#takeTcp(source, destination, body, end);
    if (protocol === Protocol.UDP) return this.#takeUdp(source, destination, body, end);
    if (protocol === Protocol.ICMP) return this.#takeIcmp(source, destination, body, end);
    return true;
  }

  #takeTcp(source: Ipv4, destination: Ipv4, body: number, end: number): boolean {
    const sum = addToSum(
      this.#frame,
      body,
      end,
      pseudoHeaderSum(source, destination, Protocol.TCP, end - body),
    );
    if (foldSum(sum) !== 0 || !parseSegment(this.#frame, body, end, this.#segment)) return false;
    this.#tcp.receive(source, destination, this.#segment);
    return true;
  }

  #takeIcmp(source: Ipv4, destination: Ipv4, body: number, end: number): boolean {
    const frame = this.#frame;
    if (end - body < Icmp.HEADER_LENGTH || checksum(frame, body, end) !== 0) return false;
    const ours = destination === this.#network.gateway || destination === this.#network.dns;
    if (frame[body] !== Icmp.ECHO || !ours) return true;
    const payload = frame.slice(body + Icmp.HEADER_LENGTH, end);
    this.#sender.icmp(destination, source, Icmp.ECHO_REPLY, 0, get32(frame, body + Icmp.REST), payload);
    return true;
  }

  #takeUdp(source: Ipv4, destination: Ipv4, body: number, end: number): boolean {
    const frame = this.#frame;
    const length = get16(frame, body + Udp.LENGTH);
    if (length < Udp.HEADER_LENGTH || body + length > end) return false;
    const sum = pseudoHeaderSum(source, destination, Protocol.UDP, length);
    const isSummed = get16(frame, body + Udp.CHECKSUM) !== 0;
    if (isSummed && foldSum(addToSum(frame, body, body + length, sum)) !== 0) return false;
    const sourcePort = get16(frame, body + Udp.SOURCE_PORT);
    const port = get16(frame, body + Udp.DESTINATION_PORT);
    const payload = frame.subarray(body + Udp.HEADER_LENGTH, body + length);
    const { gateway, dns } = this.#network;
    if (port === Dhcp.SERVER_PORT && (destination === BROADCAST || destination === gateway)) {
      this.#takeDhcp(payload);
      return true;
    }
    if (port === Dns.PORT && (destination === dns || destination === gateway)) {
      this.#dns.query(payload, (answer) => {
        this.#sender.udp(destination, port, source, sourcePort, answer);
      });
      return true;
    }
    if (destination === gateway) {
      for (const forward of this.#udpForwards) {
        if (forward.answer(source, sourcePort, port, payload)) return true;
      }
    }
    const to = this.#destinations.find("udp", source, sourcePort, destination, port);
    if (to !== undefined) this.#udp.send(source, sourcePort, destination, port, to, payload);
    else if (destination !== BROADCAST && destination >>> 28 !== 14)
      this.#refuseUdp(source, destination, body);
    return true;
  }

  /** RFC 1812 §4.3.2.7 leaves out broadcasts and multicast: the caller has. */
  #refuseUdp(source: Ipv4, destination: Ipv4, body: number): void {
    const own = destination === this.#network.gateway || destination === this.#network.dns;
    const code = own ? Icmp.PORT_UNREACHABLE : Icmp.ADMINISTRATIVELY_PROHIBITED;
    const quoted = this.#frame.slice(IP_AT, body + Udp.HEADER_LENGTH);
    this.#sender.icmp(this.#network.gateway, source, Icmp.UNREACHABLE, code, 0, quoted);
  }

  #takeDhcp(message: Uint8Array): void {
    const mac = this.#frame.slice(Ethernet.SOURCE, Ethernet.TYPE);
    const reply = this.#dhcp.answer(message, mac);
    if (reply === undefined) return;
    const { gateway } = this.#network;
    this.#sender.udp(gateway, Dhcp.SERVER_PORT, reply.to, Dhcp.CLIENT_PORT, reply.message, mac);
  }

  async #listen(forward: PortForward, path: string): Promise<void> {
    const guest =
      forward.guestAddress === undefined
        ? this.#network.firstLease
        : parseIpv4(forward.guestAddress, `${path}.guestAddress`);
    if (!contains(this.#network.subnet, guest)) {
      const found = forward.guestAddress ?? "";
      throw new NorthbridgeError("NB_CONFIG", `${path}.guestAddress: ${found} is not in the guest's subnet`);
    }
    const guestPort = checkPort(forward.guestPort, `${path}.guestPort`, 1);
    const port = checkPort(forward.hostPort, `${path}.hostPort`, 0);
    const host = forward.hostAddress ?? "127.0.0.1";
    const failed = (error: Error): NorthbridgeError =>
      new NorthbridgeError("NB_HOST", `${path}: cannot listen on ${host}:${port}: ${error.message}`, {
        cause: error,
      });
    if (forward.protocol === "udp") {
      const one = new UdpForward(this.#network, this.#sender, guest, guestPort);
      this.#udpForwards.push(one);
      await new Promise<void>((resolve, reject) => {
        one.socket.once("error", (error) => {
          reject(failed(error));
        });
        one.socket.bind(port, host, resolve);
      });
      this.#ports.push(one.socket.address().port);
      return;
    }
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      this.#tcp.forward(socket, guest, guestPort);
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => {
        reject(failed(error));
      });
      server.listen(port, host, resolve);
    });
    this.#servers.push(server);
    const bound = server.address();
    this.#ports.push(bound !== null && typeof bound === "object" ? bound.port : port);
  }
}

const broadcastMac = new Uint8Array(6).fill(0xff);

/**
 * A network of its own for a machine, without privileges: ARP, DHCP, DNS, TCP and UDP to the outside and to the host
 * ports that are stated, and ports of the host that lead to the guest. Throws `NB_CONFIG` and `NB_HOST`.
 */
export function user(options: UserNetOptions = {}): Promise<UserNet> {
  return UserNet.open(options);
}
