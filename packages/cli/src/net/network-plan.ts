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

/** One change of the host, and how it is taken back: by a program, or by a file's old content. */
export type Change =
  | { readonly what: string; readonly run: readonly string[]; readonly undo: readonly string[] | undefined }
  | { readonly what: string; readonly file: string; readonly content: string };

interface Addresses {
  readonly bridge: string;
  readonly first: string;
  readonly last: string;
  readonly network: string;
}

const LONGEST_NAME = 11;

/** The changes that make a network, in order. Throws `NB_CONFIG` that names the option at fault. */
export function planNetwork(request: NetworkRequest, runtimeDirectory: string): readonly Change[] {
  const { name, taps, user, nat, dhcp } = request;
  if (!/^[a-z][a-z0-9]*$/.test(name) || name.length > LONGEST_NAME) {
    fail(`NAME: expected a letter and then letters and digits, ${LONGEST_NAME} at most, found "${name}"`);
  }
  if (!Number.isInteger(taps) || taps < 0 || taps > 64) {
    fail(`--taps: expected a whole number from 0 to 64, found ${taps}`);
  }
  const addresses = addressesOf(request.subnet);
  const changes: Change[] = [
    ip(`bridge ${name}`, `link add ${name} type bridge`, `link del ${name}`),
    // These go with the bridge.
    ip(`address ${addresses.bridge} of ${name}`, `addr add ${addresses.bridge} dev ${name}`, undefined),
    ip(`${name} up`, `link set ${name} up`, undefined),
  ];
  for (let index = 0; index < taps; index += 1) {
    const tap = `${name}-${index}`;
    const owner = user === undefined ? "" : ` user ${user}`;
    changes.push(
      ip(`tap ${tap}`, `tuntap add mode tap name ${tap}${owner}`, `tuntap del mode tap name ${tap}`),
      ip(`${tap} on ${name}`, `link set ${tap} master ${name} up`, undefined),
    );
  }
  if (nat) {
    const table = `northbridge_${name}`;
    const rules = [
      `table ip ${table} {`,
      "chain nat {",
      "type nat hook postrouting priority 100;",
      `ip saddr ${addresses.network} oifname != "${name}" masquerade`,
      "}",
      "chain forward {",
      "type filter hook forward priority 0;",
      `iifname "${name}" accept`,
      `oifname "${name}" ct state established,related accept`,
      "}",
      "}",
    ].join("\n");
    changes.push(
      { what: "forwarding of IPv4", file: "/proc/sys/net/ipv4/ip_forward", content: "1" },
      {
        what: `NAT for ${addresses.network}`,
        run: ["nft", rules],
        undo: ["nft", `delete table ip ${table}`],
      },
    );
  }
  if (dhcp) {
    const pid = `${runtimeDirectory}/${name}.dnsmasq.pid`;
    changes.push({
      what: `DHCP on ${name}, by dnsmasq`,
      run: [
        "dnsmasq",
        "--conf-file=/dev/null",
        `--pid-file=${pid}`,
        `--interface=${name}`,
        "--except-interface=lo",
        "--bind-interfaces",
        `--dhcp-range=${addresses.first},${addresses.last},12h`,
        `--dhcp-leasefile=${runtimeDirectory}/${name}.leases`,
      ],
      undo: ["sh", "-c", `kill "$(cat ${quoted(pid)})" && rm -f ${quoted(pid)}`],
    });
  }
  return changes;
}

function ip(what: string, run: string, undo: string | undefined): Change {
  return {
    what,
    run: ["ip", ...run.split(" ")],
    undo: undo === undefined ? undefined : ["ip", ...undo.split(" ")],
  };
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

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

function fail(message: string): never {
  throw new NorthbridgeError("NB_CONFIG", message);
}
