import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { fileServer } from "./harness/file-server.ts";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import {
  CROWD_PORT,
  exerciseNetwork,
  freePort,
  networkGuest,
  SERVED,
  WEB_PORT,
} from "./harness/network-scenario.ts";
import { stubResolver } from "./harness/stub-resolver.ts";

const guest = await stockGuest("cloud");
/** Who has no rights, on every Linux. */
const NOBODY = 65_534;
const MAC = "52:54:00:12:34:56";
const GUEST6 = "fd6e:6f72:7468:2:5054:ff:fe12:3456";

it("joins a stock guest to the host and to names through user(), without privileges", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  await using directory = await scratch();
  await using server = await fileServer(SERVED);
  await using resolver = await stubResolver([192, 0, 2, 7]);
  const [port, many, port6] = [await freePort(), await freePort(), await freePort()];
  const stats = join(directory.path, "stats.json");
  const link = {
    kind: "user",
    hostname: "guest",
    dns: { records: { "host.test": ["10.0.2.2"] }, servers: [`127.0.0.1:${resolver.port}`] },
    hostPorts: [{ guestPort: 80, hostPort: server.port }],
    forwards: [
      { hostPort: port, guestPort: WEB_PORT },
      { hostPort: many, guestPort: CROWD_PORT },
      { hostPort: port6, guestPort: WEB_PORT, guestAddress: GUEST6 },
    ],
  };
  const config = {
    ...linuxConfig({ ...(await networkGuest(guest.files, directory.path)), mib: 512 }),
    devices: [
      { plugin: "virtioNet", id: "net0", mac: MAC, link },
      // Nobody may have this one: its cable is not there, and the machine goes on.
      { plugin: "virtioNet", id: "net1", link: { kind: "tap", name: "nbnobody", required: false } },
    ],
  };
  const file = await machineFile(directory.path, config);
  await chmod(directory.path, 0o777);
  const user = process.getuid?.() === 0 ? NOBODY : undefined;
  const machine = new GuestProcess(["run", file, "--timeout", "800", "--stats", stats], { user });
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
  await exerciseNetwork(shell, directory.path, server, {
    serverUrl: "http://host.test/file",
    serverUrl6: "http://[fd6e:6f72:7468:2::2]/file",
    echo: "10.0.2.2",
    echo6: "fd6e:6f72:7468:2::2",
    web: { host: "127.0.0.1", port },
    web6: { host: "127.0.0.1", port: port6 },
    crowd: { host: "127.0.0.1", port: many },
  });

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
