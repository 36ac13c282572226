import { formatIpv4, type Ipv4, parseIpv4 } from "../wire/address.ts";
import { checkPort, type UserNetOptions, type UserNetwork } from "./options.ts";
import { Policy } from "./policy.ts";

/** Where on the host's side a flow goes. */
export interface Destination {
  readonly address: string;
  readonly port: number;
}

/** Finds where a flow of a guest goes: a port of the host that was stated, the name server, or the outside. */
export class Destinations {
  readonly #network: UserNetwork;
  readonly #policy: Policy;
  readonly #hostPorts = new Map<string, Destination>();

  constructor(network: UserNetwork, options: UserNetOptions) {
    this.#network = network;
    this.#policy = new Policy(options.policy ?? [], options.allow);
    for (const [index, one] of (options.hostPorts ?? []).entries()) {
      const path = `hostPorts[${index}]`;
      const guestPort = checkPort(one.guestPort, `${path}.guestPort`, 1);
      this.#hostPorts.set(`${one.protocol ?? "tcp"}:${guestPort}`, {
        address: formatIpv4(parseIpv4(one.host ?? "127.0.0.1", `${path}.host`)),
        port: checkPort(one.hostPort ?? guestPort, `${path}.hostPort`, 1),
      });
    }
  }

  /** `undefined`: refused. */
  find(
    protocol: "tcp" | "udp",
    guest: Ipv4,
    guestPort: number,
    address: Ipv4,
    port: number,
  ): Destination | undefined {
    if (address === this.#network.gateway) return this.#hostPorts.get(`${protocol}:${port}`);
    // Queries by UDP are answered by the forwarder, before this.
    if (address === this.#network.dns)
      return port === 53 && protocol === "tcp" ? this.#network.resolvers[0] : undefined;
    if (port === 0 || !this.#policy.permits(protocol, guest, guestPort, address, port)) return undefined;
    return { address: formatIpv4(address), port };
  }
}
