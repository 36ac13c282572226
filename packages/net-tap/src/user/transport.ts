import { newSegment, parseSegment } from "../tcp/segment.ts";
import { BROADCAST } from "../wire/address.ts";
import { get16, get32 } from "../wire/bytes.ts";
import { checksum } from "../wire/checksum.ts";
import { isMulticast } from "../wire/ip.ts";
import { Dhcp6, Icmp6, Ip6 } from "../wire/spec6.ts";
import { Dhcp, Dns, Icmp, Protocol, Udp } from "../wire/spec.ts";
import type { Destinations } from "./destinations.ts";
import type { DhcpServer } from "./dhcp-server.ts";
import { answerDhcpv6 } from "./dhcpv6-server.ts";
import type { DnsForwarder } from "./dns-forwarder.ts";
import type { Forwards } from "./forwards.ts";
import { isOwnAddress, type UserNetwork } from "./options.ts";
import { hasRightSum, type Packet } from "./packet.ts";
import type { PacketWriter } from "./packet-writer.ts";
import type { TcpFlows } from "./tcp-flows.ts";
import type { UdpFlows } from "./udp-flows.ts";

/** What stands above IP. */
export interface TransportParts {
  readonly network: UserNetwork;
  readonly writer: PacketWriter;
  readonly destinations: Destinations;
  readonly dhcp: DhcpServer;
  readonly dns: DnsForwarder;
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;
  readonly forwards: Forwards;
}

/** Hands whole packets of a guest to TCP, UDP with its services, and the echo; for both families. */
export class Transport {
  readonly #parts: TransportParts;
  readonly #segment = newSegment();

  constructor(parts: TransportParts) {
    this.#parts = parts;
  }

  /** Handles a packet of a guest, whose card is `mac`. False where it is malformed. */
  take(packet: Packet, mac: Uint8Array): boolean {
    switch (packet.protocol) {
      case Protocol.TCP:
        return this.#takeTcp(packet);
      case Protocol.UDP:
        return this.#takeUdp(packet, mac);
      case Protocol.ICMP:
        return typeof packet.source === "number" && this.#takeEcho(packet, Icmp.ECHO, Icmp.ECHO_REPLY);
      case Icmp6.PROTOCOL:
        return typeof packet.source === "string" && this.#takeEcho(packet, Icmp6.ECHO, Icmp6.ECHO_REPLY);
      default:
        return true;
    }
  }

  #takeTcp(packet: Packet): boolean {
    const { bytes, body, end } = packet;
    if (!hasRightSum(packet, end - body) || !parseSegment(bytes, body, end, this.#segment)) return false;
    if (isMulticast(packet.destination)) return false;
    this.#parts.tcp.receive(packet.source, packet.destination, this.#segment);
    return true;
  }

  #takeEcho(packet: Packet, request: number, reply: number): boolean {
    const { bytes, body, end, source, destination } = packet;
    const isWhole =
      end - body >= Icmp.HEADER_LENGTH &&
      (typeof source === "number" ? checksum(bytes, body, end) === 0 : hasRightSum(packet, end - body));
    if (!isWhole) return false;
    if (bytes[body] !== request || !isOwnAddress(this.#parts.network, destination)) return true;
    const payload = bytes.slice(body + Icmp.HEADER_LENGTH, end);
    this.#parts.writer.icmp(destination, source, reply, 0, get32(bytes, body + Icmp.REST), payload);
    return true;
  }

  #takeUdp(packet: Packet, mac: Uint8Array): boolean {
    const { bytes, body, end, source, destination } = packet;
    const length = get16(bytes, body + Udp.LENGTH);
    if (end - body < Udp.HEADER_LENGTH || length < Udp.HEADER_LENGTH || body + length > end) return false;
    // Only IPv4 may leave the checksum out (RFC 8200 §8.1).
    const isSummed = typeof source === "string" || get16(bytes, body + Udp.CHECKSUM) !== 0;
    if (isSummed && !hasRightSum(packet, length)) return false;
    const sourcePort = get16(bytes, body + Udp.SOURCE_PORT);
    const port = get16(bytes, body + Udp.DESTINATION_PORT);
    const payload = bytes.subarray(body + Udp.HEADER_LENGTH, body + length);
    const { network, writer, forwards, destinations, udp } = this.#parts;
    if (this.#takeService(packet, sourcePort, port, payload, mac)) return true;
    const isGateway = destination === network.gateway || destination === network.v6?.gateway;
    if (isGateway && forwards.answer(source, sourcePort, port, payload)) return true;
    if (destination === BROADCAST || isMulticast(destination)) return true;
    if (udp.send(source, sourcePort, destination, port, payload)) return true;
    const to = destinations.find("udp", source, sourcePort, destination, port);
    if (to === undefined) refuse(packet, isOwnAddress(this.#parts.network, destination), network, writer);
    else udp.open(source, sourcePort, destination, port, to, payload);
    return true;
  }

  /** DHCP, DHCPv6 and DNS. */
  #takeService(
    packet: Packet,
    sourcePort: number,
    port: number,
    payload: Uint8Array,
    mac: Uint8Array,
  ): boolean {
    const { source, destination } = packet;
    const { network, writer, dhcp, dns } = this.#parts;
    const { gateway, v6 } = network;
    if (port === Dhcp.SERVER_PORT && (destination === BROADCAST || destination === gateway)) {
      const reply = dhcp.answer(payload, mac);
      if (reply !== undefined) writer.udp(gateway, port, reply.to, Dhcp.CLIENT_PORT, reply.message, mac);
      return true;
    }
    if (port === Dhcp6.SERVER_PORT && v6 !== undefined && typeof destination === "string") {
      const reply = isMulticast(destination) ? answerDhcpv6(payload, network, v6) : undefined;
      if (reply !== undefined) writer.udp(v6.router, port, source, Dhcp6.CLIENT_PORT, reply, mac);
      return isMulticast(destination) || isOwnAddress(this.#parts.network, destination);
    }
    if (port !== Dns.PORT || !isOwnAddress(this.#parts.network, destination)) return false;
    dns.query(payload, "udp", (answer) => {
      writer.udp(destination, port, source, sourcePort, answer);
    });
    return true;
  }
}

/** Says that nobody listens, or that the policy forbids it (RFC 1812 §4.3.2, §5.2.7.1; RFC 4443 §3.1). */
function refuse(packet: Packet, isOurs: boolean, network: UserNetwork, writer: PacketWriter): void {
  const { bytes, header, body, end, source } = packet;
  if (typeof source === "number") {
    const code = isOurs ? Icmp.PORT_UNREACHABLE : Icmp.ADMINISTRATIVELY_PROHIBITED;
    const quoted = bytes.slice(header, body + Udp.HEADER_LENGTH);
    writer.icmp(network.gateway, source, Icmp.UNREACHABLE, code, 0, quoted);
  } else if (network.v6 !== undefined) {
    const code = isOurs ? Icmp6.PORT_UNREACHABLE : Icmp6.ADMINISTRATIVELY_PROHIBITED;
    // As much as fits into the smallest MTU (RFC 4443 §2.4 c).
    const most = header + Ip6.SMALLEST_MTU - Ip6.HEADER_LENGTH - Icmp.HEADER_LENGTH;
    const quoted = bytes.slice(header, Math.min(end, most));
    writer.icmp(network.v6.gateway, source, Icmp6.UNREACHABLE, code, 0, quoted);
  }
}
