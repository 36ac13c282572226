import { formatIp, type Ip, parseIp } from "../wire/ip.ts";
import { checkPort, type HostPort, type UserNetOptions, type UserNetwork } from "./options.ts";
import { Policy } from "./policy.ts";

/** Where on the host's side a flow goes. */
export type Destination =
  | { readonly address: string; readonly port: number; readonly path?: undefined }
  /** A Unix socket. */
  | { readonly path: string };

/** Finds where a flow of a guest goes: a port of the host that was stated, or the outside. */
export class Destinations {
  readonly #network: UserNetwork;
  readonly #policy: Policy;
  readonly #hostPorts = new Map<string, Destination>();

  /** @param isOwn whether an address is this host's own */
  constructor(network: UserNetwork, options: UserNetOptions, isOwn: (address: Ip) => boolean) {
    this.#network = network;
    const { allow } = options;
    this.#policy = new Policy(options.policy ?? [], { allow, isOwn, warn: network.warn });
    for (const [index, one] of (options.hostPorts ?? []).entries()) {
      const path = `hostPorts[${index}]`;
      const guestPort = checkPort(one.guestPort, `${path}.guestPort`, 1);
      this.#hostPorts.set(`${one.protocol ?? "tcp"}:${guestPort}`, hostDestination(one, guestPort, path));
    }
  }

  /** `undefined`: refused. */
  find(
    protocol: "tcp" | "udp",
    guest: Ip,
    guestPort: number,
    address: Ip,
    port: number,
  ): Destination | undefined {
    const { gateway, dns, v6 } = this.#network;
    if (address === gateway || address === v6?.gateway) {
      const to = this.#hostPorts.get(`${protocol}:${port}`);
      return to !== undefined && this.#policy.hookPermits(protocol, guest, guestPort, address, port, true)
        ? to
        : undefined;
    }
    // Queries are answered before this.
    if (address === dns || address === v6?.dns || address === v6?.router) return undefined;
    if (port === 0 || !this.#policy.permits(protocol, guest, guestPort, address, port)) return undefined;
    return { address: formatIp(address), port };
  }
}

function hostDestination(one: HostPort, guestPort: number, path: string): Destination {
  if (one.path !== undefined) return { path: one.path };
  return {
    address: formatIp(parseIp(one.host ?? "127.0.0.1", `${path}.host`)),
    port: checkPort(one.hostPort ?? guestPort, `${path}.hostPort`, 1),
  };
}
