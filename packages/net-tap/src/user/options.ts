import { getServers } from "node:dns";
import { NorthbridgeError } from "@northbridge/sdk";
import { hostScheduler, type Scheduler } from "../scheduler.ts";
import {
  contains,
  type Ipv4,
  ipv4From,
  macKey,
  parseIpv4,
  parseMac,
  parseSubnet,
  type Subnet,
} from "../wire/address.ts";
import type { Flow, PolicyRule } from "./policy.ts";

/** A port of this host that the guest reaches at the gateway's address, or at the one that is named. */
export interface HostPort {
  readonly protocol?: "tcp" | "udp";
  readonly guestPort: number;
  readonly hostPort?: number;
  /** @defaultValue `"127.0.0.1"` */
  readonly host?: string;
}

/** A port on the host behind which a server in the guest answers. */
export interface PortForward {
  readonly protocol?: "tcp" | "udp";
  /** 0 takes a free one: see `forwardedPorts`. */
  readonly hostPort: number;
  /** @defaultValue `"127.0.0.1"` */
  readonly hostAddress?: string;
  readonly guestPort: number;
  /** @defaultValue the first address of the lease range */
  readonly guestAddress?: string;
}

export interface DnsOptions {
  /** Names that are answered here, each with its IPv4 addresses. */
  readonly records?: Readonly<Record<string, readonly string[]>>;
  /** Resolvers, as `address` or `address:port`. @defaultValue those of the host */
  readonly servers?: readonly string[];
}

/** Options of `user()`. Everything has a default. */
export interface UserNetOptions {
  /** @defaultValue `"10.0.2.0/24"`: the gateway is .2, the name server .3, leases start at .15 */
  readonly subnet?: string;
  readonly gatewayMac?: string;
  /** 576 to 65520. @defaultValue 1500 */
  readonly mtu?: number;
  readonly hostname?: string;
  readonly domain?: string;
  /** Fixed addresses: card → address. */
  readonly leases?: Readonly<Record<string, string>>;
  readonly dns?: DnsOptions;
  readonly hostPorts?: readonly HostPort[];
  readonly forwards?: readonly PortForward[];
  readonly policy?: readonly PolicyRule[];
  /** Asked for each flow that the policy allows. */
  readonly allow?: (flow: Flow) => boolean;
  /** Most TCP connections at a time. @defaultValue 4096 */
  readonly mostConnections?: number;
  /** Time to live by. Tests give their own. */
  readonly scheduler?: Scheduler;
}

/** A name server: address and port. */
export interface Resolver {
  readonly address: string;
  readonly port: number;
}

/** The virtual network that the options describe, checked. */
export interface UserNetwork {
  readonly subnet: Subnet;
  readonly gateway: Ipv4;
  readonly dns: Ipv4;
  readonly firstLease: Ipv4;
  readonly lastLease: Ipv4;
  readonly gatewayMac: Uint8Array;
  readonly mtu: number;
  readonly hostname: string;
  readonly domain: string;
  readonly leases: ReadonlyMap<number, Ipv4>;
  readonly records: ReadonlyMap<string, readonly Ipv4[]>;
  readonly resolvers: readonly Resolver[];
  readonly scheduler: Scheduler;
}

/** Checks the options. Throws `NB_CONFIG` that names the option at fault. */
export function resolveNetwork(options: UserNetOptions): UserNetwork {
  const subnet = parseSubnet(options.subnet ?? "10.0.2.0/24", "subnet", [8, 27]);
  const mtu = options.mtu ?? 1500;
  if (!Number.isInteger(mtu) || mtu < 576 || mtu > 65_520) {
    throw new NorthbridgeError("NB_CONFIG", `mtu: expected a whole number from 576 to 65520, found ${mtu}`);
  }
  const leases = new Map<number, Ipv4>();
  for (const [mac, text] of Object.entries(options.leases ?? {})) {
    const address = parseIpv4(text, `leases["${mac}"]`);
    if (!contains(subnet, address) || address - subnet.network < 4) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `leases["${mac}"]: ${text} is not an address for guests of the subnet`,
      );
    }
    leases.set(macKey(parseMac(mac, `leases["${mac}"]`), 0), address);
  }
  const records = new Map<string, readonly Ipv4[]>();
  for (const [name, addresses] of Object.entries(options.dns?.records ?? {})) {
    const path = `dns.records["${name}"]`;
    records.set(
      name.toLowerCase().replace(/\.$/, ""),
      addresses.map((text) => parseIpv4(text, path)),
    );
  }
  const size = 2 ** (32 - subnet.prefix);
  return {
    subnet,
    gateway: subnet.network + 2,
    dns: subnet.network + 3,
    firstLease: subnet.network + 15,
    lastLease: subnet.network + Math.min(size - 2, 254),
    gatewayMac: parseMac(options.gatewayMac ?? "52:55:0a:00:02:02", "gatewayMac"),
    mtu,
    hostname: shortText(options.hostname ?? "", "hostname"),
    domain: shortText(options.domain ?? "", "domain"),
    leases,
    records,
    resolvers: (options.dns?.servers ?? getServers()).flatMap((text, index) =>
      resolver(text, `dns.servers[${index}]`, options.dns?.servers !== undefined),
    ),
    scheduler: options.scheduler ?? hostScheduler,
  };
}

/** Checks a port number of a config. Throws `NB_CONFIG` that names `path`. */
export function checkPort(port: number, path: string, smallest: number): number {
  if (!Number.isInteger(port) || port < smallest || port > 65_535) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected a port from ${smallest} to 65535, found ${port}`,
    );
  }
  return port;
}

function shortText(text: string, path: string): string {
  if (!/^[\x21-\x7e]{0,255}$/.test(text)) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected at most 255 ASCII characters, found "${text}"`,
    );
  }
  return text;
}

/** IPv6 resolvers of the host are left out: queries go over IPv4. */
function resolver(text: string, path: string, stated: boolean): Resolver[] {
  const [address = "", port = "53"] = text.split(":");
  if (ipv4From(address) === undefined || text.split(":").length > 2) {
    if (!stated) return [];
    parseIpv4(text, path);
  }
  return [{ address, port: checkPort(Number(port), path, 1) }];
}
