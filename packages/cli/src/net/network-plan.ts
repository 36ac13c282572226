import { NorthbridgeError } from "@northbridge/core";

/** What `northbridge net setup` is asked for. */
export interface NetworkRequest {
  /** Name of the bridge; taps are called NAME-0, NAME-1 … */
  readonly name: string;
  /** The bridge has the first address. */
  readonly subnet: string;
  /** Taps to make beforehand. */
  readonly taps: number;
  /** Who may open them without being root. */
  readonly user: string | undefined;
  /** Whether guests reach the outside through this host. */
  readonly nat: boolean;
  /** Whether dnsmasq gives out addresses. */
  readonly dhcp: boolean;
}

/** A change that a program makes, and another takes back. */
export interface ProgramChange {
  readonly what: string;
  readonly run: readonly string[];
  readonly undo: readonly string[] | undefined;
  /** Succeeds where that is there: before, it is somebody else's; afterwards it is still to be taken back. */
  readonly exists?: readonly string[] | undefined;
}

/** What a file of the kernel's is to hold. */
export interface FileChange {
  readonly what: string;
  readonly file: string;
  readonly content: string;
  /** The files that the kernel writes along with it, as a glob pattern. */
  readonly rewrites?: string | undefined;
}

/** One change of the host. */
export type Change = ProgramChange | FileChange;

interface Addresses {
  readonly bridge: string;
  readonly first: string;
  readonly last: string;
  readonly network: string;
}

const LONGEST_NAME = 11;

/** Throws `NB_CONFIG` where `name` is not one for a network. */
export function checkNetworkName(name: string): void {
  if (/^[a-z][a-z0-9]*$/.test(name) && name.length <= LONGEST_NAME) return;
  fail(`NAME: expected a letter and then letters and digits, ${LONGEST_NAME} at most, found "${name}"`);
}

/**
 * The changes that make a network, in order. Throws `NB_CONFIG` that names the option at fault.
 * @param runtimeDirectory an absolute path: daemons leave the working directory
 */
export function planNetwork(request: NetworkRequest, runtimeDirectory: string): readonly Change[] {
  const { name, taps, user, nat, dhcp } = request;
  checkNetworkName(name);
  if (!Number.isInteger(taps) || taps < 0 || taps > 64) {
    fail(`--taps: expected a whole number from 0 to 64, found ${taps}`);
  }
  const addresses = addressesOf(request.subnet);
  const changes: Change[] = [
    ip(`bridge ${name}`, `link add ${name} type bridge`, `link del ${name}`, name),
    // These go with the bridge.
    ip(`address ${addresses.bridge} of ${name}`, `addr add ${addresses.bridge} dev ${name}`, undefined),
    ip(`${name} up`, `link set ${name} up`, undefined),
  ];
  for (let index = 0; index < taps; index += 1) {
    const tap = `${name}-${index}`;
    const owner = user === undefined ? "" : ` user ${user}`;
    changes.push(
      ip(`tap ${tap}`, `tuntap add mode tap name ${tap}${owner}`, `tuntap del mode tap name ${tap}`, tap),
      ip(`${tap} on ${name}`, `link set ${tap} master ${name} up`, undefined),
    );
  }
  if (nat) {
    const table = `northbridge_${name}`;
    const rules = [
      `create table ip ${table}`,
      `table ip ${table} {`,
      "chain nat {",
      "type nat hook postrouting priority 100;",
      `ip saddr ${addresses.network} oifname != "${name}" masquerade`,
      "}",
      "chain forward {",
      "type filter hook forward priority 0;",
      // Guests are reached from outside only where they asked, or this host forwards a port to them.
      `iifname != "${name}" oifname "${name}" ct state established,related accept`,
      `iifname != "${name}" oifname "${name}" ct status dnat accept`,
      `iifname != "${name}" oifname "${name}" drop`,
      "}",
      "}",
    ].join("\n");
    changes.push(
      {
        what: "forwarding of IPv4",
        file: "/proc/sys/net/ipv4/ip_forward",
        content: "1",
        // Linux: Documentation/networking/ip-sysctl, "ip_forward": it resets all configuration parameters.
        rewrites: "/proc/sys/net/ipv4/conf/{*/forwarding,all/accept_redirects}",
      },
      {
        what: `NAT for ${addresses.network}`,
        run: ["nft", rules],
        // Adding what is there does nothing: that makes this one right whether the table is there or not.
        undo: ["nft", `add table ip ${table}; delete table ip ${table}`],
      },
    );
  }
  if (dhcp) {
    const pidFile = `--pid-file=${runtimeDirectory}/${name}.dnsmasq.pid`;
    const leases = `${runtimeDirectory}/${name}.leases`;
    changes.push({
      what: `DHCP on ${name}, by dnsmasq`,
      run: [
        "dnsmasq",
        "--conf-file=/dev/null",
        pidFile,
        `--interface=${name}`,
        "--except-interface=lo",
        "--bind-interfaces",
        `--dhcp-range=${addresses.first},${addresses.last},12h`,
        `--dhcp-leasefile=${leases}`,
      ],
      undo: ["sh", "-c", STOP_DAEMON, "sh", pidFile, leases],
    });
  }
  return changes;
}

/**
 * Ends the process of a pid file, told by the argument that names the file: the number may be another's by now. Then
 * removes the files: `$1` is `--pid-file=PATH`, `$2` another file.
 */
const STOP_DAEMON = [
  "file=${1#*=}",
  'pid=$(cat "$file" 2>/dev/null)',
  'if [ -n "$pid" ] && grep -qzxF -- "$1" "/proc/$pid/cmdline" 2>/dev/null; then kill "$pid"; fi',
  'rm -f "$file" "$2"',
].join("\n");

/** @param device what is there once it is run, and goes with `undo` */
function ip(what: string, run: string, undo: string | undefined, device?: string): Change {
  return {
    what,
    run: ["ip", ...run.split(" ")],
    undo: undo === undefined ? undefined : ["ip", ...undo.split(" ")],
    exists: device === undefined ? undefined : ["ip", "link", "show", "dev", device],
  };
}

function addressesOf(subnet: string): Addresses {
  const [, a = "", b = "", c = "", d = "", length = ""] =
    /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(subnet) ?? [];
  const prefix = Number(length);
  const bytes = [a, b, c, d].map(Number);
  if (length === "" || bytes.some((byte) => byte > 255) || prefix < 8 || prefix > 29) {
    fail(`--subnet: expected a network such as 10.77.0.0/24 with a prefix of 8 to 29, found "${subnet}"`);
  }
  const network = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  const size = 2 ** (32 - prefix);
  if (network % size !== 0) fail(`--subnet: "${subnet}" has bits of the host set`);
  const text = (address: number): string =>
    [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
  return {
    bridge: `${text(network + 1)}/${prefix}`,
    first: text(network + 2),
    last: text(network + Math.min(size - 2, 254)),
    network: `${text(network)}/${prefix}`,
  };
}

/**
 * Throws `NB_CONFIG` where the subnet overlaps an address that an interface of the host has: two routes to it would be one
 * too many.
 * @param taken addresses with prefixes, as ip(8) writes them: `10.77.0.1/24`, and whose they are
 */
export function expectFreeSubnet(subnet: string, taken: readonly { address: string; of: string }[]): void {
  const [network, size] = rangeOf(subnet);
  for (const { address, of } of taken) {
    const [other, otherSize] = rangeOf(address);
    if (network >= other + otherSize || other >= network + size) continue;
    fail(`--subnet: ${subnet} overlaps ${address} of ${of}: choose another`);
  }
}

/** First address and length of the network that an address with a prefix is in. */
function rangeOf(cidr: string): [first: number, length: number] {
  const [address = "", prefix = ""] = cidr.split("/");
  const size = 2 ** (32 - Number(prefix));
  const value = address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
  return [value - (value % size), size];
}

function fail(message: string): never {
  throw new NorthbridgeError("NB_CONFIG", message);
}
