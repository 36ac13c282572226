import { existsSync } from "node:fs";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { enterNetworkNamespace } from "@northbridge/linux";
import { describe, expect, it } from "vitest";
import { namespaceObstacle, NetworkNamespace } from "../../../net-tap/test/network-namespace.ts";
import { forwardObstacles } from "./forward-obstacles.ts";
import { expectFreeSubnet, planNetwork } from "./network-plan.ts";

const MAIN = join(import.meta.dirname, "..", "main.ts");
const obstacle = namespaceObstacle();

const request = { name: "lab", subnet: "10.77.0.0/24", taps: 1, user: undefined, nat: true, dhcp: true };

describe("the plan of a host network", () => {
  it("takes back, in order, whatever does not go with the bridge", () => {
    const plan = planNetwork(request, "/run/x");
    expect(plan.map(({ what }) => what)).toEqual([
      "bridge lab",
      "address 10.77.0.1/24 of lab",
      "lab up",
      "tap lab-0",
      "lab-0 on lab",
      "forwarding of IPv4",
      "NAT for 10.77.0.0/24",
      "DHCP on lab, by dnsmasq",
    ]);
    expect(plan.map((one) => ("undo" in one ? one.undo?.[0] : one.file))).toEqual([
      "ip",
      undefined,
      undefined,
      "ip",
      undefined,
      "/proc/sys/net/ipv4/ip_forward",
      "nft",
      "sh",
    ]);
  });

  it.each([
    [{ name: "a-b" }, /^NAME: expected a letter/],
    [{ name: "muchtoolongname" }, /^NAME: expected a letter and then letters and digits, 11 at most/],
    [{ subnet: "10.77.0.1/24" }, '--subnet: "10.77.0.1/24" has bits of the host set'],
    [{ subnet: "10.77.0.0" }, /^--subnet: expected a network such as/],
    [{ subnet: "10.77.0.0/30" }, /^--subnet: expected a network such as/],
    [{ taps: 65 }, /^--taps: expected a whole number from 0 to 64, found 65$/],
  ])("refuses %j", (change, message) => {
    expect(() => planNetwork({ ...request, ...change }, "/run/x")).toThrow(message);
  });
});

it.each([
  ["10.88.0.0/24", "10.88.0.1/24"],
  ["10.88.0.0/16", "10.88.7.9/29"],
  ["10.88.7.0/29", "10.88.0.1/16"],
])("does not make %s beside %s", (subnet, address) => {
  expect(() => {
    expectFreeSubnet(subnet, [
      { address: "127.0.0.1/8", of: "lo" },
      { address, of: "br0" },
    ]);
  }).toThrow(`--subnet: ${subnet} overlaps ${address} of br0: choose another`);
  expectFreeSubnet(subnet, [{ address: "10.89.0.1/24", of: "br1" }]);
});

describe.skipIf(obstacle !== undefined)(
  `a host network${obstacle === undefined ? "" : `: ${obstacle}`}`,
  () => {
    it("is made, shown, and undone to what was there before", async () => {
      await using namespace = await NetworkNamespace.make();
      await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-net-"));
      const state = join(directory.path, "state");
      const northbridge = (...args: readonly string[]): Promise<string> =>
        namespace.run(
          process.execPath,
          "--conditions=northbridge-source",
          MAIN,
          "net",
          ...args,
          "--state",
          state,
        );
      const hasNft = namespaceObstacle("nft") === undefined;
      const nat = hasNft ? [] : ["--no-nat"];
      const host = async (): Promise<string> =>
        (hasNft ? await namespace.run("nft", "list", "ruleset") : "") +
        (await namespace.run("ip", "-br", "link")) +
        (await namespace.run("ip", "addr")) +
        (await namespace.run("sh", "-c", "grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf"));
      await namespace.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects");
      const before = await host();
      const made = await northbridge("setup", "lab", "--taps", "2", ...nat, "--no-dhcp");
      expect(made).toContain("bridge lab\n");
      const shown = [
        "bridge lab",
        "address 10.77.0.1/24 of lab",
        "lab up",
        "tap lab-0",
        "lab-0 on lab",
        "tap lab-1",
        "lab-1 on lab",
      ];
      if (hasNft) shown.push("forwarding of IPv4", "NAT for 10.77.0.0/24");
      expect(await northbridge("show")).toBe(`lab:\n${shown.map((what) => `  ${what}\n`).join("")}`);
      if (hasNft) {
        expect(await namespace.run("nft", "list", "ruleset")).toContain(
          'ip saddr 10.77.0.0/24 oifname != "lab" masquerade',
        );
        expect(await namespace.run("cat", "/proc/sys/net/ipv4/ip_forward")).toBe("1\n");
      }
      expect(await namespace.run("ip", "link", "show", "lab-1")).toContain("master lab");
      expect(await namespace.run("ip", "addr", "show", "lab")).toContain("inet 10.77.0.1/24");
      await expect(northbridge("setup", "lab", "--no-nat", "--no-dhcp")).rejects.toThrow(
        /lab: is set up already/,
      );
      expect(await northbridge("teardown", "lab")).toBe("lab: gone\n");
      expect(await host()).toBe(before);
      expect(await readdir(state)).toEqual([]);
      await expect(northbridge("teardown", "lab")).rejects.toThrow(
        /lab: expected the record of a `net setup`/,
      );
    });

    it.skipIf(namespaceObstacle("nft", "ping") !== undefined)(
      "reaches the outside, and is reached from there only where it asked; other firewalls are told of",
      async () => {
        await using host = await NetworkNamespace.make();
        await using lan = await NetworkNamespace.make();
        await using guest = await NetworkNamespace.make();
        const ip = (namespace: NetworkNamespace, line: string): Promise<string> =>
          namespace.run("ip", ...line.split(" "));
        const plan = planNetwork({ ...request, taps: 0, dhcp: false }, "/run/x");
        for (const change of plan) {
          if ("run" in change) await host.run(change.run[0] ?? "", ...change.run.slice(1));
          else await host.run("sh", "-c", `echo ${change.content} > ${change.file}`);
        }
        await ip(host, `link add out type veth peer name eth0 netns ${lan.name}`);
        await ip(host, `link add in type veth peer name eth0 netns ${guest.name}`);
        await ip(host, "link set in master lab up");
        await ip(host, "addr add 192.0.2.1/24 dev out");
        await ip(host, "link set out up");
        await ip(lan, "addr add 192.0.2.2/24 dev eth0");
        await ip(lan, "link set eth0 up");
        await ip(lan, "route add 10.77.0.0/24 via 192.0.2.1");
        await ip(guest, "addr add 10.77.0.2/24 dev eth0");
        await ip(guest, "link set eth0 up");
        await ip(guest, "route add default via 10.77.0.1");
        await guest.run("ping", "-c1", "-w10", "192.0.2.2");
        await expect(lan.run("ping", "-c1", "-W1", "10.77.0.2")).rejects.toThrow();
        // The same once more, where this host does not keep it from it.
        await host.run("nft", "delete table ip northbridge_lab");
        await lan.run("ping", "-c1", "-w10", "10.77.0.2");
        expect(await obstaclesIn(host)).toEqual([]);
        await host.run(
          "nft",
          "add table ip other; add chain ip other f { type filter hook forward priority 0; policy drop; }",
        );
        expect(await obstaclesIn(host)).toEqual([
          "lab reaches the outside only as far as chain f of table ip other lets it: accept what comes from lab, and answers to it, there",
        ]);
      },
    );

    it("is not left half made", async () => {
      await using namespace = await NetworkNamespace.make();
      await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-net-"));
      const state = join(directory.path, "state");
      const links = await namespace.run("ip", "-br", "link");
      await expect(
        namespace.run(
          process.execPath,
          "--conditions=northbridge-source",
          MAIN,
          "net",
          "setup",
          "lab",
          "--user",
          "nobody-of-that-name",
          "--no-nat",
          "--no-dhcp",
          "--state",
          state,
        ),
      ).rejects.toThrow(/ip tuntap add mode tap name lab-0 user nobody-of-that-name/);
      expect(await namespace.run("ip", "-br", "link")).toBe(links);
      expect(existsSync(join(state, "lab.json"))).toBe(false);
    });
  },
);

async function obstaclesIn(namespace: NetworkNamespace): Promise<readonly string[]> {
  const leave = enterNetworkNamespace(`/run/netns/${namespace.name}`);
  try {
    return await forwardObstacles("lab");
  } finally {
    leave();
  }
}
