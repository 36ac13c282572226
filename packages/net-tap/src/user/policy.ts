import { type Ipv4, contains, formatIpv4, parseSubnet, type Subnet } from "../wire/address.ts";

/** A connection or exchange that a guest wants to begin. */
export interface Flow {
  readonly protocol: "tcp" | "udp";
  readonly guestAddress: string;
  readonly guestPort: number;
  readonly address: string;
  readonly port: number;
}

/** One line of the policy. The first that matches decides. */
export interface PolicyRule {
  readonly action: "allow" | "deny";
  /** Network, such as `10.0.0.0/8`. @defaultValue every address */
  readonly to?: string;
  readonly protocol?: "tcp" | "udp";
  readonly ports?: readonly number[];
}

interface ParsedRule {
  readonly allow: boolean;
  readonly to: Subnet | undefined;
  readonly protocol: "tcp" | "udp" | undefined;
  readonly ports: readonly number[] | undefined;
}

/**
 * What a guest never reaches unless a rule or a host port says so: this host (RFC 1122 §3.2.1.3), its loopback, link-local
 * addresses with the clouds' metadata services (RFC 3927), multicast and reserved addresses (RFC 6890).
 */
const closed: readonly Subnet[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
].map((text) => parseSubnet(text, "closed"));

/** Whether an address lies where a guest has no business by default. */
export function isClosedAddress(address: Ipv4): boolean {
  return closed.some((subnet) => contains(subnet, address));
}

/** Decides which flows a guest may begin: rules as data, then a hook. */
export class Policy {
  readonly #rules: readonly ParsedRule[];
  readonly #allow: ((flow: Flow) => boolean) | undefined;

  constructor(rules: readonly PolicyRule[], allow: ((flow: Flow) => boolean) | undefined) {
    this.#rules = rules.map((rule, index) => ({
      allow: rule.action === "allow",
      to: rule.to === undefined ? undefined : parseSubnet(rule.to, `policy[${index}].to`),
      protocol: rule.protocol,
      ports: rule.ports,
    }));
    this.#allow = allow;
  }

  permits(protocol: "tcp" | "udp", guest: Ipv4, guestPort: number, address: Ipv4, port: number): boolean {
    const rule = this.#rules.find(
      (one) =>
        (one.to === undefined || contains(one.to, address)) &&
        (one.protocol ?? protocol) === protocol &&
        (one.ports === undefined || one.ports.includes(port)),
    );
    // A rule without a network speaks of the outside: it does not open the host.
    const named = rule?.to !== undefined && rule.allow;
    if (rule?.allow === false || (!named && isClosedAddress(address))) return false;
    if (this.#allow === undefined) return true;
    return this.#allow({
      protocol,
      guestAddress: formatIpv4(guest),
      guestPort,
      address: formatIpv4(address),
      port,
    });
  }
}
