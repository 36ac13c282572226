import { Resolver } from "node:dns";
import { NorthbridgeError } from "@northbridge/sdk";
import { hostScheduler, type Scheduler } from "../scheduler.ts";
import { checkSocketPath } from "../socket/listen.ts";
import {
  contains,
  type Ipv4,
  macKey,
  parseIpv4,
  parseMac,
  parseSubnet,
  type Subnet,
} from "../wire/address.ts";
import {
  hostAddress,
  hostOf,
  type Ip,
  type Ipv6,
  ipv6From,
  parseIp,
  parseSubnet6,
  type Subnet6,
} from "../wire/ip.ts";
import { Ip6 } from "../wire/spec6.ts";
import { Dhcp, Dns } from "../wire/spec.ts";
import type { Flow, PolicyRule } from "./policy.ts";

/** A port of this host that the guest reaches at the gateway's address. */
export interface HostPort {
  readonly protocol?: "tcp" | "udp" | undefined;
  readonly guestPort: number;
  /** @defaultValue the same as `guestPort` */
  readonly hostPort?: number | undefined;
  /** @defaultValue `"127.0.0.1"` */
  readonly host?: string | undefined;
  /** A Unix socket instead of a port. TCP only. */
  readonly path?: string | undefined;
}

/** A port on the host behind which a server in the guest answers. */
export interface PortForward {
  readonly protocol?: "tcp" | "udp" | undefined;
  /** 0 takes a free one: see `forwardedPorts`. Not with `path`. */
  readonly hostPort?: number | undefined;
  /** @defaultValue `"127.0.0.1"` */
  readonly hostAddress?: string | undefined;
  /** A Unix socket to listen on instead of a port. TCP only. */
  readonly path?: string | undefined;
  readonly guestPort: number;
  /** @defaultValue the first address of the lease range */
  readonly guestAddress?: string | undefined;
}

export interface DnsOptions {
  /** Names that are answered here, each with its addresses. */
  readonly records?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Resolvers, as `address`, `address:port` or `[address]:port`. @defaultValue those of the host */
  readonly servers?: readonly string[] | undefined;
}

/** Options of `user()`. Everything has a default. */
export interface UserNetOptions {
  /** @defaultValue `"10.0.2.0/24"`: the gateway is .2, the name server .3, leases start at .15 */
  readonly subnet?: string | undefined;
  /** The IPv6 network, of 64 bits: the gateway is ::2, the name server ::3. `false`: none. @defaultValue `"fd6e:6f72:7468:2::/64"` */
  readonly subnet6?: string | false | undefined;
  readonly gatewayMac?: string | undefined;
  /** 576 to 65520; 1280 and more with IPv6. @defaultValue 1500 */
  readonly mtu?: number | undefined;
  readonly hostname?: string | undefined;
  readonly domain?: string | undefined;
  /** Fixed addresses: card → address. */
  readonly leases?: Readonly<Record<string, string>> | undefined;
  readonly dns?: DnsOptions | undefined;
  readonly hostPorts?: readonly HostPort[] | undefined;
  readonly forwards?: readonly PortForward[] | undefined;
  readonly policy?: readonly PolicyRule[] | undefined;
  /** Asked for each flow that the policy allows, and for each to a stated port of the host. */
  readonly allow?: ((flow: Flow) => boolean) | undefined;
  /** Most TCP connections at a time. @defaultValue 4096 */
  readonly mostConnections?: number | undefined;
  /** Hears what a person should read: a line that names the option at fault. */
  readonly warn?: ((line: string) => void) | undefined;
  /** Time to live by. Tests give their own. */
  readonly scheduler?: Scheduler | undefined;
}

/** A name server: address and port. */
export interface NameServer {
  readonly address: string;
  readonly port: number;
}

export interface Ipv6Network {
  readonly prefix: Subnet6;
  readonly gateway: Ipv6;
  readonly dns: Ipv6;
  /** The gateway's link-local address, from which it advertises. */
  readonly router: Ipv6;
}

/** Throws `NB_CONFIG` where a port of the host that the guest is given leads back to a guest. */
function checkLoops({ hostPorts = [], forwards = [] }: UserNetOptions): void {
  for (const [index, one] of hostPorts.entries()) {
    const again = forwards.findIndex((forward) => leadsTo(one, forward));
    if (again < 0) continue;
    const where = one.path ?? `port ${one.hostPort ?? one.guestPort} of the host`;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `hostPorts[${index}]: a forwarding loop: ${where} is forwards[${again}], which leads back to the guest: remove one of the two`,
    );
  }
}

/** Ports of the gateway where it answers itself. */
const services: readonly (readonly [protocol: "tcp" | "udp", port: number, name: string])[] = [
  ["udp", Dhcp.SERVER_PORT, "DHCP"],
  ["udp", Dns.PORT, "DNS"],
  ["tcp", Dns.PORT, "DNS"],
];

/** Throws `NB_CONFIG` where a port of the host would never be reached as it is stated. */
function checkHostPorts(hostPorts: readonly HostPort[] = []): void {
  const seen = new Map<string, number>();
  for (const [index, { protocol = "tcp", guestPort, path }] of hostPorts.entries()) {
    const where = `hostPorts[${index}]`;
    const fail = (reason: string): never => {
      throw new NorthbridgeError("NB_CONFIG", `${where}${reason}`);
    };
    if (path !== undefined) {
      if (protocol === "udp") fail(".path: a Unix socket carries TCP only");
      checkSocketPath(path, `${where}.path`);
    }
    const service = services.find(([of, port]) => of === protocol && port === guestPort);
    if (service !== undefined) fail(`.guestPort: the gateway answers ${service[2]} there itself`);
    const key = `${protocol}:${guestPort}`;
    const first = seen.get(key);
    if (first !== undefined) fail(`: hostPorts[${first}] has ${protocol} port ${guestPort} already`);
    seen.set(key, index);
  }
}

function leadsTo(one: HostPort, forward: PortForward): boolean {
  if (one.path !== undefined || forward.path !== undefined) return one.path === forward.path;
  const on = forward.hostAddress ?? "127.0.0.1";
  const isThere = on === "0.0.0.0" || on === "::" || on === (one.host ?? "127.0.0.1");
  const isSame = (one.protocol ?? "tcp") === (forward.protocol ?? "tcp");
  return isSame && isThere && (one.hostPort ?? one.guestPort) === forward.hostPort;
}

/** The virtual network that the options describe, checked. */
export interface UserNetwork {
  readonly subnet: Subnet;
  readonly gateway: Ipv4;
  readonly dns: Ipv4;
  readonly firstLease: Ipv4;
  readonly lastLease: Ipv4;
  readonly v6: Ipv6Network | undefined;
  readonly gatewayMac: Uint8Array;
  readonly mtu: number;
  readonly hostname: string;
  readonly domain: string;
  readonly leases: ReadonlyMap<number, Ipv4>;
  readonly records: ReadonlyMap<string, readonly Ip[]>;
  /** Those of the options, or those that this host has now: it goes from one network to another. */
  readonly nameServers: () => readonly NameServer[];
  readonly warn: (line: string) => void;
  readonly scheduler: Scheduler;
}

/** Whether the network itself answers at an address: as the gateway, the name server or the router. */
export function isOwnAddress({ gateway, dns, v6 }: UserNetwork, address: Ip): boolean {
  if (typeof address === "number") return address === gateway || address === dns;
  return v6 !== undefined && (address === v6.gateway || address === v6.dns || address === v6.router);
}

/** Checks the options. Throws `NB_CONFIG` that names the option at fault. */
export function resolveNetwork(options: UserNetOptions): UserNetwork {
  checkLoops(options);
  checkHostPorts(options.hostPorts);
  const subnet = parseSubnet(options.subnet ?? "10.0.2.0/24", "subnet", [8, 27]);
  const mtu = options.mtu ?? 1500;
  const v6 = options.subnet6 === false ? undefined : ipv6Network(options.subnet6);
  const smallest = v6 === undefined ? 576 : Ip6.SMALLEST_MTU;
  if (!Number.isInteger(mtu) || mtu < smallest || mtu > 65_520) {
    const remedy = v6 === undefined || mtu >= Ip6.SMALLEST_MTU ? "" : "; less than 1280 needs subnet6: false";
    throw new NorthbridgeError(
      "NB_CONFIG",
      `mtu: expected a whole number from ${smallest} to 65520, found ${mtu}${remedy}`,
    );
  }
  const size = 2 ** (32 - subnet.prefix);
  const gateway = subnet.network + 2;
  const gatewayMac = parseMac(options.gatewayMac ?? "52:55:0a:00:02:02", "gatewayMac");
  return {
    subnet,
    gateway,
    dns: subnet.network + 3,
    firstLease: subnet.network + 15,
    lastLease: subnet.network + Math.min(size - 2, 254),
    v6,
    gatewayMac,
    mtu,
    hostname: dnsName(options.hostname, "hostname"),
    domain: dnsName(options.domain, "domain"),
    leases: fixedLeases(options, subnet),
    records: dnsRecords(options.dns),
    nameServers: nameServers(options.dns),
    warn: options.warn ?? ((): void => undefined),
    scheduler: options.scheduler ?? hostScheduler,
  };
}

function ipv6Network(text: string = "fd6e:6f72:7468:2::/64"): Ipv6Network {
  const prefix = parseSubnet6(text, "subnet6", [64, 64]);
  const router = hostOf({ network: ipv6From("fe80::") ?? "", prefix: 64 }, 2);
  return { prefix, gateway: hostOf(prefix, 2), dns: hostOf(prefix, 3), router };
}

function fixedLeases(options: UserNetOptions, subnet: Subnet): ReadonlyMap<number, Ipv4> {
  const leases = new Map<number, Ipv4>();
  const owners = new Map<Ipv4, string>();
  const last = (subnet.network | ~subnet.mask) >>> 0;
  for (const [mac, text] of Object.entries(options.leases ?? {})) {
    const path = `leases["${mac}"]`;
    const address = parseIpv4(text, path);
    if (!contains(subnet, address) || address - subnet.network < 4 || address === last) {
      throw new NorthbridgeError("NB_CONFIG", `${path}: ${text} is not an address for guests of the subnet`);
    }
    const owner = owners.get(address);
    if (owner !== undefined) {
      throw new NorthbridgeError("NB_CONFIG", `${path}: ${text} is also the address of ${owner}`);
    }
    owners.set(address, mac);
    const key = macKey(parseMac(mac, path), 0);
    if (leases.has(key))
      throw new NorthbridgeError("NB_CONFIG", `${path}: this card has another address above`);
    leases.set(key, address);
  }
  return leases;
}

function dnsRecords(dns: DnsOptions | undefined): ReadonlyMap<string, readonly Ip[]> {
  const records = new Map<string, readonly Ip[]>();
  for (const [name, addresses] of Object.entries(dns?.records ?? {})) {
    const path = `dns.records["${name}"]`;
    const key = name.toLowerCase().replace(/\.$/, "");
    records.set(
      key,
      addresses.map((text) => parseIp(text, path)),
    );
  }
  return records;
}

function nameServers(dns: DnsOptions | undefined): () => readonly NameServer[] {
  // A new one reads the host's configuration anew.
  if (dns?.servers === undefined)
    return () => new Resolver().getServers().flatMap((text) => nameServer(text) ?? []);
  const servers = dns.servers.map((text, index) => {
    const path = `dns.servers[${index}]`;
    const server = nameServer(text);
    if (server !== undefined) return { ...server, port: checkPort(server.port, path, 1) };
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${path}: expected a name server such as 9.9.9.9, 127.0.0.1:5353 or [::1]:5353, found "${text}"`,
    );
  });
  return () => servers;
}

/** `address`, `v4:port` or `[v6]:port`. */
function nameServer(text: string): NameServer | undefined {
  const alone = hostAddress(text);
  if (alone !== undefined) return { address: alone, port: Dns.PORT };
  const [, v4, v6, port] = /^(?:([^:[\]]+)|\[(.+)\]):(\d+)$/.exec(text) ?? [];
  const address = hostAddress(v4 ?? v6 ?? "");
  return address === undefined ? undefined : { address, port: Number(port) };
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

/** A host or domain name (RFC 1123 §2.1), or nothing. */
function dnsName(text: string = "", path: string): string {
  const isName = text.length <= 253 && /^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.(?=.)|$))+$/i.test(text);
  if (text === "" || isName) return text;
  throw new NorthbridgeError("NB_CONFIG", `${path}: expected a name such as guest.test, found "${text}"`);
}
