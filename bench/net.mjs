/**
 * `pnpm bench:net`: one Linux sends and receives over TCP, with iperf3, under Northbridge's software CPU and under QEMU's
 * TCG, alternately: through `user()` beside QEMU's user network, and as root through `tap()` beside QEMU's tap, in a
 * network namespace of its own. Reports bytes per second, and per CPU second of the emulator; judges nothing.
 *
 * Options: `--kernel FILE --initrd FILE` (default: the guest of examples/linux-serial), `--runs N` (1), `--seconds N` (8),
 * `--links user,tap`, `--json FILE`. Runs the command from its sources. Needs iperf3; the guest gets the host's.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { hostProgram } from "../packages/cli/src/guest/index.ts";
import {
  benchInitrd,
  contestantsOf,
  guestOptions,
  MOST_MS,
  northbridgeCommand,
  tcgCommand,
} from "./linux-under.mjs";
import { cost, findProgram } from "./watch-boot.mjs";

const NAMESPACE = `nbb${process.pid}`;
/** iproute2: of the host, and in no package. */
const IP = "ip";
const TAP = "bench0";
const MAC = "52:54:00:12:34:56";
const TESTS = ["send", "receive"];
/** Where the guest is, where it finds the server, and where that listens. */
const LINKS = {
  user: { address: "10.0.2.15/24", server: "10.0.2.2", host: "127.0.0.1" },
  tap: { address: "10.79.0.2/24", server: "10.79.0.1", host: "10.79.0.1" },
};

const { values } = parseArgs({
  options: {
    ...guestOptions,
    runs: { type: "string", default: "1" },
    seconds: { type: "string", default: "8" },
    links: { type: "string", default: "user,tap" },
    json: { type: "string" },
  },
});
const iperf3 = findProgram("iperf3");
const directory = await mkdtemp(join(tmpdir(), "northbridge-bench-"));
try {
  await compare();
} finally {
  await rm(directory, { recursive: true });
}

async function compare() {
  if (iperf3 === undefined) throw new Error("iperf3 is not installed");
  const contestants = contestantsOf({ command: northbridge }, (qemu) => ({
    command: (setting) => tcg(qemu, setting),
  }));
  const links = values.links.split(",").filter((link) => {
    if (link !== "tap" || process.getuid() === 0) return true;
    console.log("tap: skipped, needs root");
    return false;
  });
  const results = [];
  for (const link of links) {
    for (let i = 0; i < Number(values.runs); i++) {
      for (const { name, command } of contestants) {
        for (const result of await measure(link, command)) {
          results.push({ link, name, ...result });
          const { test, mbit, perCpu } = result;
          console.log(
            `${link.padEnd(5)}${name.padEnd(12)} ${test.padEnd(8)} ${mbit.toFixed(0)} Mbit/s, ${perCpu.toFixed(0)} Mbit per CPU second`,
          );
        }
      }
    }
  }
  console.log("");
  for (const link of links) {
    for (const test of TESTS) {
      const [ours, theirs] = contestants.map(({ name }) =>
        mediansOf(results.filter((each) => each.link === link && each.name === name && each.test === test)),
      );
      if (theirs === undefined) continue;
      const ratio = (key) => (ours[key] / theirs[key]).toFixed(2);
      console.log(
        `${link} ${test}: ${ratio("mbit")} times TCG's rate, ${ratio("perCpu")} times per CPU second`,
      );
    }
  }
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify({ version: 1, results }, undefined, 2)}\n`);
  }
}

function mediansOf(results) {
  const middle = (key) => results.map((each) => each[key]).sort((a, b) => a - b)[results.length >> 1];
  return { mbit: middle("mbit"), perCpu: middle("perCpu") };
}

/** Boots a guest that sends for a while and then receives. */
async function measure(link, command) {
  const isTap = link === "tap";
  const port = isTap ? 5201 : await freePort();
  const scope = isTap ? [IP, "netns", "exec", NAMESPACE] : [];
  const initrd = await writeInitrd(LINKS[link], port);
  if (isTap) makeNamespace(`${LINKS.tap.host}/24`);
  const machine = [...scope, ...(await command({ link, port, initrd }))];
  const server = [...scope, iperf3, "-s", "-B", LINKS[link].host, "-p", String(port)];
  const listener = spawn(server[0], server.slice(1), { stdio: "ignore" });
  try {
    return await watch(machine);
  } finally {
    listener.kill();
    await once(listener, "close");
    if (isTap) execFileSync(IP, ["netns", "del", NAMESPACE]);
  }
}

/** Runs a machine until it ends; what each test moved, beside what the emulator's processes cost meanwhile. */
async function watch([program, ...args]) {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), MOST_MS);
  const costs = new Map();
  let said = "";
  child.stdout.on("data", (bytes) => {
    said += bytes.toString("latin1");
    for (const [mark] of said.matchAll(/^(BEGIN|END) \w+(?=\r?$)/gm)) {
      if (!costs.has(mark)) costs.set(mark, cost(child.pid).cpuMs);
    }
  });
  await once(child, "close");
  clearTimeout(timer);
  return TESTS.map((test) => {
    const part = said.slice(said.indexOf(`BEGIN ${test}`), said.indexOf(`END ${test}`));
    const [, rate] = /([\d.]+) Mbits\/sec .* receiver/.exec(part) ?? [];
    if (rate === undefined) throw new Error(`no result of ${test}:\n${said.slice(-2000)}`);
    const cpuSeconds = (costs.get(`END ${test}`) - costs.get(`BEGIN ${test}`)) / 1000;
    return { test, mbit: Number(rate), perCpu: (Number(rate) * Number(values.seconds)) / cpuSeconds };
  });
}

async function writeInitrd({ address, server }, port) {
  const init = `#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev; mkdir -p /tmp
modprobe virtio_pci; modprobe virtio_net
ip link set lo up; ip addr add ${address} dev eth0; ip link set eth0 up
until ping -c 1 -W 1 ${server} > /dev/null; do sleep 0.2; done
# iperf3 asks for random bytes: what a guest of a second does to have some is no part of the tests.
head -c 16 /dev/random > /dev/null
for test in ${TESTS.join(" ")}; do
  echo; echo "BEGIN $test"
  iperf3 -c ${server} -p ${port} -t ${values.seconds} -i 0 -f m $([ $test = receive ] && echo -R)
  echo; echo "END $test"
done
poweroff -f
`;
  return benchInitrd(directory, values.initrd, init, await hostProgram(iperf3));
}

function makeNamespace(address) {
  execFileSync(IP, ["netns", "add", NAMESPACE]);
  for (const step of [
    "link set lo up",
    `tuntap add mode tap name ${TAP}`,
    `addr add ${address} dev ${TAP}`,
    `link set ${TAP} up`,
  ]) {
    execFileSync(IP, ["-n", NAMESPACE, ...step.split(" ")]);
  }
}

function northbridge({ link, port, initrd }) {
  const end =
    link === "tap"
      ? { kind: "tap", name: TAP }
      : { kind: "user", hostPorts: [{ guestPort: port, hostPort: port }] };
  const device = { plugin: "virtioNet", mac: MAC, link: end };
  return northbridgeCommand({ directory, kernel: values.kernel, initrd, device });
}

function tcg(qemu, { link, initrd }) {
  const netdev = link === "tap" ? `tap,id=net,ifname=${TAP},script=no,downscript=no` : "user,id=net";
  const device = ["-netdev", netdev, "-device", `virtio-net-pci,netdev=net,mac=${MAC}`];
  return tcgCommand(qemu, { kernel: values.kernel, initrd, device });
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
