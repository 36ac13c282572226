import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import type { RegisterCommand } from "../commands/register-command.ts";
import { forwardObstacles } from "./forward-obstacles.ts";
import { setUp, tearDown } from "./host-network.ts";
import { addressesOfHost } from "./host-addresses.ts";
import { checkNetworkName, expectFreeSubnet, planNetwork } from "./network-plan.ts";
import { listNetworks } from "./network-record.ts";

interface SetupFlags {
  readonly subnet: string;
  readonly taps: number;
  readonly user?: string;
  readonly nat: boolean;
  readonly dhcp: boolean;
  readonly state: string;
}

const STATE = "/run/northbridge/net";

/** Adds `net setup|teardown|show`: a bridge with NAT and DHCP on this host, for machines with `kind: tap`. */
export const registerNet: RegisterCommand = (program, host) => {
  const net = program.command("net").description("networks of this host that machines join by tap");
  const say = (line: string): void => {
    host.stdout.write(`${line}\n`);
  };
  net
    .command("setup <name>")
    .description("make a bridge with taps, NAT and DHCP; needs root, iproute2, nftables and dnsmasq")
    .option("--subnet <cidr>", "addresses of the network", "10.77.0.0/24")
    .option("--taps <n>", "taps to make", toCount, 1)
    .option("--user <name>", "who may open the taps without being root")
    .option("--no-nat", "leave the outside out")
    .option("--no-dhcp", "give out no addresses")
    .option("--state <dir>", "where to record what was done", STATE)
    .action(async (name: string, { state, user, ...flags }: SetupFlags) => {
      const plan = planNetwork({ name, user, ...flags }, resolve(state));
      const others = (await addressesOfHost()).filter(({ of }) => of !== name);
      expectFreeSubnet(flags.subnet, others);
      await setUp(name, plan, state, say);
      if (flags.nat) for (const line of await forwardObstacles(name)) say(line);
    });
  net
    .command("teardown <name>")
    .description("undo what setup did, and nothing else")
    .option("--state <dir>", "where setup recorded it", STATE)
    .action(async (name: string, { state }: { readonly state: string }) => {
      checkNetworkName(name);
      await tearDown(name, state);
      say(`${name}: gone`);
    });
  net
    .command("show")
    .description("list what setup has made")
    .option("--state <dir>", "where setup recorded it", STATE)
    .action(async ({ state }: { readonly state: string }) => {
      for (const network of await listNetworks(state)) {
        say(`${network.name}:`);
        if ("problem" in network) say(`  ${network.problem}`);
        else for (const { what } of network.made) say(`  ${what}`);
      }
    });
};

function toCount(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError("expected a whole number up to 64");
  return Number(text);
}
