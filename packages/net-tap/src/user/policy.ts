import { formatIp, type Ip, type IpNetwork, isWithin, networkContains, parseNetwork } from "../wire/ip.ts";

/** A connection or exchange that a guest wants to begin. */
export interface Flow {
  readonly protocol: "tcp" | "udp";
  readonly guestAddress: string;
  readonly guestPort: number;
  /** What the guest calls its peer: the gateway's address for a stated port of the host. */
  readonly address: string;
  readonly port: number;
  /** Whether it leads to a stated port of the host, and not to the outside. */
  readonly toHost: boolean;
}

/** One line of the policy. The first that matches decides. */
export interface PolicyRule {
  readonly action: "allow" | "deny";
  /**
   * Network, such as `10.0.0.0/8` or `fd00::/8`. An `allow` opens what is closed by default only where it means that:
   * a network within such a one, as `127.0.0.0/8` or `169.254.169.254/32` is; this host's own addresses one by one.
   * @defaultValue every address
   */
  readonly to?: string | undefined;
  readonly protocol?: "tcp" | "udp" | undefined;
  readonly ports?: readonly number[] | undefined;
}

interface ParsedRule {
  readonly allow: boolean;
  readonly to: IpNetwork | undefined;
  /** Whether it speaks of what is closed by default: a wide network speaks of the outside. */
  readonly meansClosed: boolean;
  readonly protocol: "tcp" | "udp" | undefined;
  readonly ports: readonly number[] | undefined;
}

/**
 * What a guest never reaches unless a rule or a host port says so: this host (RFC 1122 §3.2.1.3), its loopback,
 * link-local addresses with the clouds' metadata services (RFC 3927, RFC 4291 §2.5.6), multicast and reserved addresses
 * (RFC 6890), and IPv6 addresses that hold an IPv4 address (RFC 4291 §2.5.5, RFC 6052, RFC 3056, RFC 4380, RFC 7915),
 * past which the rules for IPv4 would not see. The metadata services that clouds have put elsewhere are closed by name.
 */
const closed: readonly IpNetwork[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "100.100.100.200/32",
  "168.63.129.16/32",
  "::/96",
  "::ffff:0:0/96",
  "::ffff:0:0:0/96",
  "2001::/32",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "2002::/16",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
  "fd00:ec2::254/128",
  "fd20:ce::254/128",
].map((text) => parseNetwork(text, "closed"));

/** Whether an address lies where a guest has no business by default. */
export function isClosedAddress(address: Ip): boolean {
  return closed.some((network) => networkContains(network, address));
}

/** A rule about one address, or about a part of what is closed. */
function meansClosed(to: IpNetwork): boolean {
  return to.prefix === ("mask" in to ? 32 : 128) || closed.some((network) => isWithin(to, network));
}

/** What a policy asks of what is around it. */
export interface PolicySurroundings {
  readonly allow?: ((flow: Flow) => boolean) | undefined;
  /** Whether an address is this host's own. */
  readonly isOwn: (address: Ip) => boolean;
  readonly warn: (line: string) => void;
}

/** Decides which flows a guest may begin: rules as data, then a hook. */
export class Policy {
  readonly #rules: readonly ParsedRule[];
  readonly #surroundings: PolicySurroundings;
  #hasWarned = false;

  constructor(rules: readonly PolicyRule[], surroundings: PolicySurroundings) {
    this.#rules = rules.map((rule, index) => {
      const to = rule.to === undefined ? undefined : parseNetwork(rule.to, `policy[${index}].to`);
      return {
        allow: rule.action === "allow",
        to,
        meansClosed: to !== undefined && meansClosed(to),
        protocol: rule.protocol,
        ports: rule.ports,
      };
    });
    this.#surroundings = surroundings;
  }

  /** Whether a flow to the outside may begin. */
  permits(protocol: "tcp" | "udp", guest: Ip, guestPort: number, address: Ip, port: number): boolean {
    const isClosed = isClosedAddress(address) || this.#surroundings.isOwn(address);
    const rule = this.#rules.find(
      (one) =>
        (one.to === undefined || networkContains(one.to, address)) &&
        (one.protocol ?? protocol) === protocol &&
        (one.ports === undefined || one.ports.includes(port)) &&
        !(one.allow && isClosed && !one.meansClosed),
    );
    if (rule === undefined ? isClosed : !rule.allow) return false;
    return this.hookPermits(protocol, guest, guestPort, address, port, false);
  }

  /** What the hook says. */
  hookPermits(
    protocol: "tcp" | "udp",
    guest: Ip,
    guestPort: number,
    address: Ip,
    port: number,
    toHost: boolean,
  ): boolean {
    const { allow, warn } = this.#surroundings;
    if (allow === undefined) return true;
    const guestAddress = formatIp(guest);
    try {
      // A promise is no yes: who awaits comes too late.
      const answer: unknown = allow({
        protocol,
        guestAddress,
        guestPort,
        address: formatIp(address),
        port,
        toHost,
      });
      return answer === true;
    } catch (error) {
      // Told once: it is the guest that makes it throw.
      if (!this.#hasWarned) warn(`allow: threw, which refuses the flow: ${String(error)}`);
      this.#hasWarned = true;
      return false;
    }
  }
}
