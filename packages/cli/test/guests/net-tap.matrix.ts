import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { fileServer } from "./harness/file-server.ts";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { hostTool, missingTools, runTool } from "./harness/host-tools.ts";
import { scratch, TUNED } from "./harness/machine-file.ts";
import { namespaceScope, scopeObstacle } from "./harness/namespace-scope.ts";
import {
  CROWD_PORT,
  exerciseNetwork,
  MAC,
  networkMachine,
  SERVED,
  userNetwork,
  WEB_PORT,
} from "./harness/network-scenario.ts";
import { stubResolver } from "./harness/stub-resolver.ts";

const guest = await stockGuest("cloud");
const OTHER_MAC = "52:54:00:12:34:57";
const IPERF = "/usr/bin/iperf3";
const QEMU = "qemu-system-x86_64";

/** A program of the host that runs to the end of the scope. */
function running(
  name: string,
  ...args: readonly string[]
): AsyncDisposable & { readonly child: ChildProcess } {
  const child = spawn(hostTool(name), args, { stdio: ["ignore", "ignore", "inherit"] });
  return {
    child,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill();
      await once(child, "exit");
    },
  };
}

/** Runs a `northbridge` command to its end. */
async function command(...args: readonly string[]): Promise<string> {
  await using process = new GuestProcess(args);
  const { code, out, err } = await process.ended;
  if (code !== 0) throw new Error(`northbridge ${args.join(" ")}: ${code}: ${err}`);
  return out;
}

/** Asserts that iperf3 of the guest moves something to and from its server, and prints how much. */
async function measure(shell: GuestShell, server: string, what: string): Promise<void> {
  for (const flag of ["", "-R"]) {
    const report = await shell.ask(`iperf3 -c ${server} -t 3 -f m ${flag}`);
    const [, rate = "0"] = /([\d.]+) Mbits\/sec .*receiver/.exec(report) ?? [];
    expect(Number(rate)).toBeGreaterThan(0);
    console.log(`${what} ${flag === "" ? "sends" : "receives"} ${rate} Mbit/s`);
  }
}

/** How a guest is joined to a tap. */
interface TapJoint {
  readonly what: string;
  /** The machine's device. */
  readonly card: object;
  /** Arguments of `run`, where the machine's config does not do. */
  readonly args?: (directory: string, args: readonly string[]) => Promise<readonly string[]>;
}

const TAP = "lab-0";
const joints: readonly TapJoint[] = [
  { what: "tap()", card: { plugin: "virtioNet", mac: MAC, link: { kind: "tap", name: TAP } } },
  existsSync("/dev/vhost-net")
    ? { what: "vhostNet()", card: { plugin: "vhostNet", mac: MAC, name: TAP } }
    : {
        what: "vhostNet(), its kernel's part played by the test (this host has no /dev/vhost-net)",
        card: { plugin: "fakeVhostNet", mac: MAC, name: TAP },
        args: withFakeVhost,
      },
];

/** The machine of a config whose `fakeVhostNet` no package has, as a module. */
async function withFakeVhost(
  directory: string,
  [file = "", ...more]: readonly string[],
): Promise<readonly string[]> {
  const plugin = join(import.meta.dirname, "..", "vhost", "fake-vhost-net.plugin.ts");
  const module = join(directory, "machine.ts");
  await writeFile(
    module,
    `import { readFileSync } from "node:fs";
    import { fakeVhostNet } from ${JSON.stringify(plugin)};
    const config = JSON.parse(readFileSync(${JSON.stringify(file)}, "utf8"));
    const devices = config.devices.map(({ plugin: _plugin, ...options }) => fakeVhostNet(options));
    export default { ...config, devices };
    `,
  );
  return [module, ...more];
}

it.for(joints)(
  "joins a stock guest to a bridge of the host through $what, as `net setup` makes it",
  async (joint, context) => {
    if ("missing" in guest) return context.skip(guest.missing);
    const obstacle = scopeObstacle("nft", "dnsmasq", "iperf3", "ping", "curl");
    if (obstacle !== undefined) return context.skip(obstacle);
    await using directory = await scratch();
    await using namespace = await namespaceScope();
    const state = ["--state", join(directory.path, "state")];
    expect(await command("net", "setup", "lab", ...state)).toContain("DHCP on lab, by dnsmasq\n");
    try {
      await namespace.run("ip", "addr", "add", "fd77::1/64", "dev", "lab", "nodad");
      await using server = await fileServer(SERVED, "::");
      await using _iperf = running("iperf3", "-s");
      const { args } = await networkMachine(guest.files, directory.path, [joint.card], IPERF);
      await using shell = await GuestShell.boot((await joint.args?.(directory.path, args)) ?? args);

      const lease = await shell.ask("udhcpc -i eth0 -n -q -x hostname:guest 2>&1");
      const [, address = ""] = /lease of (10\.77\.0\.\d+) obtained/.exec(lease) ?? [];
      expect(address).not.toBe("");
      expect(await shell.ask("nslookup -type=a guest 10.77.0.1")).toContain(`Address: ${address}`);
      await shell.ask("ip -6 addr add fd77::2/64 dev eth0");
      await exerciseNetwork(shell, directory.path, server, {
        serverUrl: `http://10.77.0.1:${server.port}/file`,
        serverUrl6: `http://[fd77::1]:${server.port}/file`,
        echo: "10.77.0.1",
        echo6: "fd77::1",
        web: { host: address, port: WEB_PORT },
        web6: { host: "[fd77::2]", port: WEB_PORT },
        crowd: { host: address, port: CROWD_PORT },
      });
      await measure(shell, "10.77.0.1", `${joint.what}: the guest`);
      expect(await runTool("ping", "-f", "-q", "-c", "5000", address)).toContain(
        "5000 packets transmitted, 5000 received, 0% packet loss",
      );
      expect(await shell.end()).toMatchObject({ code: 0, err: "" });
    } finally {
      await command("net", "teardown", "lab", ...state);
    }
    expect(await namespace.run("ip", "-br", "link")).not.toContain("lab");
  },
);

it("joins a stock guest to the host through passt", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  const obstacle = scopeObstacle("passt", "iperf3", "curl");
  if (obstacle !== undefined) return context.skip(obstacle);
  await using directory = await scratch();
  await using namespace = await namespaceScope();
  // What passt finds on its host's interface it gives to the guest. At other addresses the guest finds the host, and at
  // the gateway's the host's loopback.
  for (const step of [
    "link add net0 type bridge",
    "link set net0 up",
    "addr add 10.7.7.2/24 dev net0",
    "addr add fd07::2/64 dev net0 nodad",
    "addr add 198.51.100.1/32 dev lo",
    "addr add fd08::1/128 dev lo",
    "route add default via 10.7.7.1",
    "route add default via fd07::1 dev net0",
  ]) {
    await namespace.run("ip", ...step.split(" "));
  }
  await namespace.run("sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range");
  await using server = await fileServer(SERVED, "::");
  await using _resolver = await stubResolver([192, 0, 2, 7], 53);
  await using _iperf = running("iperf3", "-s");
  await chmod(directory.path, 0o777);
  const path = join(directory.path, "passt.sock");
  const ports = `${WEB_PORT},${CROWD_PORT}`;
  const options = ["-f", "-q", "-1", "-s", path, "-m", "1500", "-D", "10.7.7.1", "-t", ports];
  await using passt = running("passt", ...options);
  while (!existsSync(path) && passt.child.exitCode === null)
    await new Promise((done) => setTimeout(done, 10));
  const card = { plugin: "virtioNet", mac: MAC, link: { kind: "stream", path } };
  const { args } = await networkMachine(guest.files, directory.path, [card], IPERF);
  await using shell = await GuestShell.boot(args);

  expect(await shell.ask("udhcpc -i eth0 -n -q 2>&1")).toContain("lease of 10.7.7.2 obtained");
  expect(await shell.ask("nslookup far.test")).toContain("Address: 192.0.2.7");
  await exerciseNetwork(shell, directory.path, server, {
    serverUrl: `http://198.51.100.1:${server.port}/file`,
    serverUrl6: `http://[fd08::1]:${server.port}/file`,
    echo: "198.51.100.1",
    echo6: "fd08::1",
    web: { host: "127.0.0.1", port: WEB_PORT },
    web6: { host: "[::1]", port: WEB_PORT },
    crowd: { host: "127.0.0.1", port: CROWD_PORT },
  });
  await measure(shell, "10.7.7.1", "passt: the guest");
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
});

it("joins a stock guest to one of QEMU's on the same switch", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  const missing = missingTools(QEMU, "iperf3", "ping");
  if (missing !== undefined) return context.skip(missing);
  await using directory = await scratch();
  const path = join(directory.path, "lan.sock");
  const card = { plugin: "virtioNet", mac: MAC, link: { kind: "switch", path, uplink: { kind: "user" } } };
  const programs = [IPERF, hostTool("ping")];
  const { args, files } = await networkMachine(guest.files, directory.path, [card], ...programs);
  await using ours = await GuestShell.boot(args);
  const machine = "-M pc -accel tcg -m 512 -nodefaults -nographic -no-reboot -serial stdio".split(" ");
  const netdev = `stream,id=lan,server=off,addr.type=unix,addr.path=${path}`;
  const link = ["-netdev", netdev, "-device", `virtio-net-pci,netdev=lan,mac=${OTHER_MAC}`];
  const boot = ["-kernel", files.kernel, "-initrd", files.initrd, "-append", TUNED];
  await using theirs = await GuestShell.over(
    new GuestProcess([...machine, ...link, ...boot], { program: QEMU }),
  );

  // One DHCP server for both, behind the switch.
  const addresses: string[] = [];
  for (const shell of [ours, theirs]) {
    const lease = await shell.ask("udhcpc -i eth0 -n -q 2>&1");
    addresses.push(/lease of (\S+) obtained/.exec(lease)?.[1] ?? "");
    // 64 MiB, no two of them the same.
    await shell.ask("cd /tmp && head -c 1048576 /dev/urandom > part");
    await shell.ask("for i in $(seq 64); do echo $i; cat part; done > file");
    await shell.ask(`httpd -p ${WEB_PORT} -h /tmp`);
  }
  expect(new Set(addresses).size).toBe(2);
  const [here = "", there = ""] = addresses;
  const sumOf = (shell: GuestShell): Promise<string> => shell.ask("sha256sum < /tmp/file");
  expect(await ours.ask(`wget -q -O - http://${there}:${WEB_PORT}/file | sha256sum`)).toBe(
    await sumOf(theirs),
  );
  expect(await theirs.ask(`wget -q -O - http://${here}:${WEB_PORT}/file | sha256sum`)).toBe(
    await sumOf(ours),
  );
  const flood = "5000 packets transmitted, 5000 received, 0% packet loss";
  expect(await ours.ask(`/usr/bin/ping -f -q -c 5000 ${there}`)).toContain(flood);
  expect(await theirs.ask(`/usr/bin/ping -f -q -c 5000 ${here}`)).toContain(flood);
  for (const [shell, mac] of [
    [ours, OTHER_MAC],
    [theirs, MAC],
  ] as const) {
    const local = `fe80::5054:ff:fe12:${mac.slice(12).replace(":", "")}`;
    expect(await shell.ask(`ping -c 3 -I eth0 ${local}`)).toContain("3 packets received, 0% packet loss");
  }
  await theirs.ask("iperf3 -s -D");
  await measure(ours, there, "switch: our guest");
  expect(await theirs.end()).toMatchObject({ code: 0 });
  expect(await ours.end()).toMatchObject({ code: 0, err: "" });
});

it("joins a stock guest to user() in another process by vhost-user, which sees its cable pulled meanwhile", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  const missing = missingTools("curl");
  if (missing !== undefined) return context.skip(missing);
  await using directory = await scratch();
  await using server = await fileServer(SERVED);
  const { link, place } = await userNetwork(server);
  const path = join(directory.path, "net.sock");
  const serve = async (): Promise<GuestProcess> => {
    const config = ["--set", `link=${JSON.stringify(link)}`, "--set", "queuePairs=2"];
    const process = new GuestProcess(["vhost-user", "net", "--socket", path, ...config], { stdin: "ignore" });
    await process.waitFor(/listening at/);
    return process;
  };
  let backEnd = await serve();
  try {
    const card = { plugin: "vhostUserNet", mac: MAC, path, queuePairs: 2 };
    const { args } = await networkMachine(guest.files, directory.path, [card]);
    await using shell = await GuestShell.boot([...args, "--set", "vcpus=2"]);
    expect(await shell.ask("ls /sys/class/net/eth0/queues | wc -l")).toBe("4");
    expect(await shell.ask("grep -c 'virtio.*-[io].*put' /proc/interrupts")).toBe("4");
    expect(await shell.ask("cat /sys/class/net/eth0/address")).toBe(MAC);
    expect(await shell.ask("udhcpc -i eth0 -n -q 2>&1")).toContain("lease of 10.0.2.15 obtained");
    await exerciseNetwork(shell, directory.path, server, place);
    backEnd.kill("SIGKILL");
    await backEnd.ended;
    await shell.ask("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do usleep 50000; done");
    backEnd = await serve();
    await shell.ask("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do usleep 50000; done");
    expect(await shell.ask("ping -c 3 10.0.2.2")).toContain("3 packets received, 0% packet loss");
    expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  } finally {
    backEnd.kill("SIGKILL");
    await backEnd.ended;
  }
});
