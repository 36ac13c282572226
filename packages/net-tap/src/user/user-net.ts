import type { NetBackend, NetOffloads } from "@northbridge/sdk";
import { BROADCAST, isGroupMac, macKey } from "../wire/address.ts";
import { get16 } from "../wire/bytes.ts";
import { type Ip, UNSPECIFIED6 } from "../wire/ip.ts";
import { Icmp6 } from "../wire/spec6.ts";
import { Dhcp, Ethernet, EtherType, Protocol, Udp, VnetHeader } from "../wire/spec.ts";
import { ArpResponder } from "./arp.ts";
import { Claims } from "./claims.ts";
import { Destinations } from "./destinations.ts";
import { DhcpServer } from "./dhcp-server.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { Forwards } from "./forwards.ts";
import { Fragments } from "./fragments.ts";
import { type Input, readIpv4Packet, readIpv6Packet } from "./ip-input.ts";
import { HostAddresses } from "./host-addresses.ts";
import { GuestLink } from "./link.ts";
import { NeighbourDiscovery } from "./neighbour-discovery.ts";
import { Neighbours } from "./neighbours.ts";
import { resolveNetwork, type UserNetOptions, type UserNetwork } from "./options.ts";
import { hasRightSum, newPacket } from "./packet.ts";
import { PacketWriter } from "./packet-writer.ts";
import { TcpFlows } from "./tcp-flows.ts";
import { Transport } from "./transport.ts";
import { UdpFlows } from "./udp-flows.ts";

/** Counters of a user-mode network. */
export interface UserNetStats {
  readonly framesFromGuest: number;
  readonly framesToGuest: number;
  /** Frames of the guest that were no frames, had wrong checksums or forged sources. */
  readonly framesRefused: number;
  readonly framesDropped: number;
  readonly tcpConnections: number;
  readonly udpFlows: number;
  /** Bytes of datagrams whose fragments have not all come. */
  readonly fragmentBytes: number;
}

/** The virtual network of a guest behind a NAT in this process: no privilege, no device of the host. */
export class UserNet implements NetBackend {
  readonly mtu: number;
  readonly offloads: NetOffloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: false };
  readonly #network: UserNetwork;
  readonly #writer: PacketWriter;
  readonly #link: GuestLink;
  readonly #claims: Claims;
  readonly #arp: ArpResponder;
  readonly #discovery: NeighbourDiscovery | undefined;
  readonly #dns: DnsForwarder;
  readonly #hostAddresses: HostAddresses;
  readonly #tcp: TcpFlows;
  readonly #udp: UdpFlows;
  readonly #forwards: Forwards;
  readonly #transport: Transport;
  readonly #fragments: Fragments;
  readonly #frame = new Uint8Array(Ethernet.HEADER_LENGTH + 65_535);
  readonly #mac = this.#frame.subarray(Ethernet.SOURCE, Ethernet.TYPE);
  readonly #packet = newPacket();
  /** Of the frame at hand. */
  #length = 0;
  #isClosed = false;
  #received = 0;
  #refused = 0;

  private constructor(options: UserNetOptions) {
    const network = resolveNetwork(options);
    this.#network = network;
    this.mtu = network.mtu;
    const { scheduler, v6 } = network;
    this.#link = new GuestLink(scheduler, () => {
      this.#tcp.resume();
    });
    const neighbours = new Neighbours(() => scheduler.nowMs(), network.leases);
    this.#claims = new Claims(network, neighbours, this.#link, (address) => {
      if (typeof address === "number") this.#arp.ask(address);
      else this.#discovery?.ask(address);
    });
    const writer = new PacketWriter(this.#link, network.gatewayMac, network.mtu, this.#claims);
    this.#writer = writer;
    this.#arp = new ArpResponder(network, this.#claims, writer);
    this.#discovery = v6 && new NeighbourDiscovery(network, v6, this.#claims, writer);
    this.#dns = new DnsForwarder(network);
    this.#hostAddresses = new HostAddresses(() => scheduler.nowMs());
    const destinations = new Destinations(network, options, (address) => this.#hostAddresses.isOwn(address));
    const most = options.mostConnections ?? 4096;
    this.#tcp = new TcpFlows(network, destinations, this.#dns, writer, this.#link, most);
    this.#udp = new UdpFlows(network, writer);
    this.#forwards = new Forwards(network, this.#tcp, writer);
    this.#fragments = new Fragments(scheduler);
    this.#transport = new Transport({
      network,
      writer,
      destinations,
      dhcp: new DhcpServer(network, neighbours),
      dns: this.#dns,
      tcp: this.#tcp,
      udp: this.#udp,
      forwards: this.#forwards,
    });
  }

  /** Makes the network and listens on its forwarded ports. Throws `NB_CONFIG`, or `NB_HOST` for a port that is taken. */
  static async open(options: UserNetOptions): Promise<UserNet> {
    const net = new UserNet(options);
    try {
      for (const [index, forward] of (options.forwards ?? []).entries()) {
        await net.#forwards.open(forward, `forwards[${index}]`);
      }
    } catch (error) {
      await net.close();
      throw error;
    }
    return net;
  }

  /** The host ports of `forwards`, in order; 0 for a Unix socket. */
  get forwardedPorts(): readonly number[] {
    return this.#forwards.ports;
  }

  get stats(): UserNetStats {
    return {
      framesFromGuest: this.#received,
      framesToGuest: this.#link.sentFrames,
      framesRefused: this.#refused,
      framesDropped: this.#link.droppedFrames,
      tcpConnections: this.#tcp.size,
      udpFlows: this.#udp.size,
      fragmentBytes: this.#fragments.heldBytes,
    };
  }

  /** Takes every frame: what has no room in a host socket closes its connection's window instead. */
  send(frame: readonly Uint8Array[], header?: Uint8Array): boolean {
    if (this.#isClosed) return true;
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
    this.#packet.isUnsummed = ((header?.[0] ?? 0) & VnetHeader.NEEDS_CSUM) !== 0;
    this.#length = length;
    this.#link.hold(this.#takeHeld);
    return true;
  }

  /** What the guest takes undone: large frames of TCP go to it in one piece. */
  setOffloads(taken: NetOffloads): void {
    this.#writer.offloads = taken;
  }

  connect(receive: (frame: Uint8Array, header?: Uint8Array) => boolean, _onWritable: () => void): void {
    this.#link.connect(receive);
    this.#discovery?.start();
  }

  resume(): void {
    this.#link.resume();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#hostAddresses.close();
    this.#discovery?.close();
    this.#link.close();
    this.#tcp.close();
    this.#udp.close();
    this.#dns.close();
    this.#fragments.clear();
    await this.#forwards.close();
  }

  readonly #takeHeld = (): void => {
    if (!this.#takeFrame(this.#length)) this.#refused += 1;
  };

  #takeFrame(length: number): boolean {
    const frame = this.#frame;
    if (length < Ethernet.HEADER_LENGTH || isGroupMac(frame, Ethernet.SOURCE)) return false;
    if (!isGroupMac(frame, 0) && macKey(frame, 0) !== macKey(this.#network.gatewayMac, 0)) return true;
    switch (get16(frame, Ethernet.TYPE)) {
      case EtherType.ARP:
        return this.#arp.take(frame, length);
      case EtherType.IPV4:
        return this.#takeIpv4(readIpv4Packet(frame, length, this.#packet, this.#fragments, this.#isClaimed));
      case EtherType.IPV6:
        if (this.#discovery === undefined) return true;
        return this.#takeIpv6(
          this.#discovery,
          readIpv6Packet(frame, length, this.#packet, this.#fragments, this.#isClaimed),
        );
      default:
        return true;
    }
  }

  /** Of the frame at hand. */
  readonly #isClaimed = (source: Ip): boolean => this.#claims.claim(source, this.#mac, 0);

  #takeIpv4(input: Input): boolean {
    if (input !== "whole") return input === "partial";
    const packet = this.#packet;
    const { destination } = packet;
    // Who has no address yet asks for one, of all or of us; what else goes to this port is forged or not.
    const isDhcp =
      packet.protocol === Protocol.UDP &&
      (destination === BROADCAST || destination === this.#network.gateway) &&
      get16(packet.bytes, packet.body + Udp.DESTINATION_PORT) === Dhcp.SERVER_PORT;
    if (!isDhcp && !this.#isClaimed(packet.source)) return false;
    return this.#transport.take(packet, this.#mac);
  }

  #takeIpv6(discovery: NeighbourDiscovery, input: Input): boolean {
    if (input !== "whole") return input === "partial";
    const packet = this.#packet;
    const { protocol, bytes, body, end, source } = packet;
    const type = bytes[body] ?? 0;
    const isDiscovery =
      protocol === Icmp6.PROTOCOL && type >= Icmp6.ROUTER_SOLICITATION && type <= Icmp6.REDIRECT;
    // A guest without an address may look for routers and for others with the same address, and nothing else.
    const isKnown = source === UNSPECIFIED6 ? protocol === Icmp6.PROTOCOL : this.#isClaimed(source);
    if (!isKnown) return false;
    if (isDiscovery)
      return end - body >= 8 && hasRightSum(packet, end - body) && discovery.take(packet, this.#mac);
    return source === UNSPECIFIED6 || this.#transport.take(packet, this.#mac);
  }
}

/**
 * A network of its own for a machine, without privileges: ARP, DHCP, DNS, TCP and UDP to the outside and to the host
 * ports that are stated, and ports of the host that lead to the guest; IPv6 beside it. Throws `NB_CONFIG` and `NB_HOST`.
 */
export function user(options: UserNetOptions = {}): Promise<UserNet> {
  return UserNet.open(options);
}
