import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { fileServer } from "./harness/file-server.ts";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { scratch } from "./harness/machine-file.ts";
import { exerciseNetwork, MAC, networkMachine, SERVED, userNetwork } from "./harness/network-scenario.ts";
import { stubResolver } from "./harness/stub-resolver.ts";

const guest = await stockGuest("cloud");
/** Who has no rights, on every Linux. */
const NOBODY = 65_534;

it("joins a stock guest to the host and to names through user(), without privileges", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  await using directory = await scratch();
  await using server = await fileServer(SERVED);
  await using resolver = await stubResolver([192, 0, 2, 7]);
  const { link, place } = await userNetwork(server);
  const stats = join(directory.path, "stats.json");
  const dns = { records: { "host.test": ["10.0.2.2"] }, servers: [`127.0.0.1:${resolver.port}`] };
  const { args } = await networkMachine(guest.files, directory.path, [
    { plugin: "virtioNet", id: "net0", mac: MAC, link: { ...link, hostname: "guest", dns } },
    // Nobody may have this one: its cable is not there, and the machine goes on.
    { plugin: "virtioNet", id: "net1", link: { kind: "tap", name: "nbnobody", required: false } },
  ]);
  await chmod(directory.path, 0o777);
  const user = process.getuid?.() === 0 ? NOBODY : undefined;
  const machine = new GuestProcess(["run", ...args, "--stats", stats], { user });
  await using shell = await GuestShell.over(machine);

  expect(await shell.ask("udhcpc -i eth0 -n -q 2>&1")).toContain("lease of 10.0.2.15 obtained");
  expect(await shell.ask("ip route")).toContain("default via 10.0.2.2");
  expect(await shell.ask("hostname")).toBe("guest");
  // Names, from the table and from a server of the host's.
  expect(await shell.ask("nslookup host.test")).toContain("Address: 10.0.2.2");
  expect(await shell.ask("nslookup far.test")).toContain("Address: 192.0.2.7");
  // Where it may not: ports that are not stated, and what clouds keep at link-local addresses.
  expect(await shell.run(`wget -O - http://10.0.2.2:${server.port}/`)).toMatchObject({ status: 1 });
  expect(await shell.run("wget -O - http://169.254.169.254/")).toMatchObject({ status: 1 });
  const byName = { ...place, serverUrl: "http://host.test/file" };
  await exerciseNetwork(shell, directory.path, server, byName);

  await shell.ask("ip link set eth1 up");
  expect(await shell.ask("cat /sys/class/net/eth0/carrier /sys/class/net/eth1/carrier")).toBe("1\n0");
  // A name server that is gone is told of once, and leaves everything else as it was.
  await resolver[Symbol.asyncDispose]();
  expect(await shell.run("nslookup gone.test; nslookup gone.test")).toMatchObject({ status: 1 });
  expect(await shell.ask("nslookup host.test")).toContain("Address: 10.0.2.2");

  const { code, err } = await shell.end();
  expect([code, err.trim().split("\n")]).toEqual([
    0,
    [
      expect.stringMatching(/^net1: no network: (kind|name): this user may not .*, or use kind: user$/),
      `net0: dns.servers: no answer from 127.0.0.1:${resolver.port}: state others there, or addresses of names in dns.records`,
    ],
  ]);
  const { hostEnds } = JSON.parse(await readFile(stats, "utf8")) as {
    readonly hostEnds: Readonly<Record<string, Readonly<Record<string, number>>>>;
  };
  const counters = hostEnds["net0.link"];
  expect(counters?.["bytesIn"]).toBeGreaterThan(SERVED);
  expect(counters?.["bytesOut"]).toBeGreaterThan(2 * SERVED);
  expect(counters?.["framesDropped"]).toBe(0);
});
