/**
 * `pnpm bench:net`: one Linux pings its host, and sends and receives over TCP with iperf3, under Northbridge's software
 * CPU and under QEMU's TCG, alternately: through `user()` beside QEMU's user network, and as root through `tap()` beside
 * QEMU's tap, in a network namespace of its own. Reports the median round trip of pings to an idle machine, pings a
 * second without a pause, and bytes a second, both also per CPU second of the emulator; judges nothing.
 *
 * Options: `--kernel FILE --initrd FILE` (default: the guest of examples/linux-serial), `--runs N` (1), `--seconds N` (8),
 * `--links user,tap`, `--json FILE`. Runs the command from its sources. Needs iperf3 and iputils' ping; the guest gets
 * the host's.
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
/** Pings of an idle guest, one each 20 ms, and pings without a pause. */
const [PINGS, FLOOD] = [250, 5000];
/**
 * What the guest runs, and what its words say: a time in microseconds, or an amount and the seconds it took, which
 * are told by second and by CPU second.
 */
const TESTS = {
  ping: {
    script: ({ server }) =>
      `${ping} -c ${PINGS} -i 0.02 ${server} | sed -n 's/.* time=\\([0-9.]*\\) ms/\\1/p' | sort -n |
        sed -n '${PINGS / 2}s/^/median /p'`,
    read: (said) => ({ us: Number(/^median ([\d.]+)/m.exec(said)?.[1]) * 1000 }),
  },
  flood: {
    script: ({ server }) => `${ping} -q -f -c ${FLOOD} ${server}`,
    read: (said) => {
      const [, pings, ms] = /(\d+) received, .* time (\d+)ms/.exec(said) ?? [];
      return { amount: Number(pings), unit: "pings", seconds: Number(ms) / 1000 };
    },
  },
  send: { script: iperf, read: readIperf },
  receive: { script: (ends) => `${iperf(ends)} -R`, read: readIperf },
};
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
const [iperf3, ping] = ["iperf3", "ping"].map(findProgram);
const directory = await mkdtemp(join(tmpdir(), "northbridge-bench-"));
try {
  await compare();
} finally {
  await rm(directory, { recursive: true });
}

async function compare() {
  if (iperf3 === undefined) throw new Error("iperf3 is not installed");
  if (ping === undefined) throw new Error("ping is not installed");
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
          console.log(`${link.padEnd(5)}${name.padEnd(12)} ${result.test.padEnd(8)} ${inWords(result)}`);
        }
      }
    }
  }
  console.log("");
  for (const link of links) {
    for (const test of Object.keys(TESTS)) {
      const [ours, theirs] = contestants.map(({ name }) =>
        results.filter((each) => each.link === link && each.name === name && each.test === test),
      );
      if (theirs !== undefined) console.log(`${link} ${test}: ${compared(ours, theirs)}`);
    }
  }
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify({ version: 1, results }, undefined, 2)}\n`);
  }
}

function inWords({ us, unit, perSecond, perCpu }) {
  if (us !== undefined) return `${us.toFixed(0)} µs, there and back`;
  return `${perSecond.toFixed(0)} ${unit}/s, ${perCpu.toFixed(0)} ${unit} per CPU second`;
}

function compared(ours, theirs) {
  const ratio = (key) => (medianOf(ours, key) / medianOf(theirs, key)).toFixed(2);
  if (ours[0].us !== undefined) return `${ratio("us")} times TCG's round trip`;
  return `${ratio("perSecond")} times TCG's rate, ${ratio("perCpu")} times per CPU second`;
}

function medianOf(results, key) {
  return results.map((each) => each[key]).sort((a, b) => a - b)[results.length >> 1];
}

/** Boots a guest that runs each test. */
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
  return Object.entries(TESTS).map(([test, { read }]) => {
    const part = said.slice(said.indexOf(`BEGIN ${test}`), said.indexOf(`END ${test}`));
    const { us, amount, unit, seconds } = read(part);
    if (!((us ?? amount) > 0)) throw new Error(`no result of ${test}:\n${said.slice(-2000)}`);
    if (us !== undefined) return { test, us };
    const cpuSeconds = (costs.get(`END ${test}`) - costs.get(`BEGIN ${test}`)) / 1000;
    return { test, unit, perSecond: amount / seconds, perCpu: amount / cpuSeconds };
  });
}

function iperf({ server, port }) {
  return `iperf3 -c ${server} -p ${port} -t ${values.seconds} -i 0 -f m`;
}

function readIperf(said) {
  const [, rate] = /([\d.]+) Mbits\/sec .* receiver/.exec(said) ?? [];
  const seconds = Number(values.seconds);
  return { amount: Number(rate) * seconds, unit: "Mbit", seconds };
}

async function writeInitrd({ address, server }, port) {
  const tests = Object.entries(TESTS).map(
    ([name, { script }]) =>
      `echo; echo "BEGIN ${name}"; ${script({ server, port })}; echo; echo "END ${name}"`,
  );
  const init = `#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev; mkdir -p /tmp
modprobe virtio_pci; modprobe virtio_net
ip link set lo up; ip addr add ${address} dev eth0; ip link set eth0 up
until ping -c 1 -W 1 ${server} > /dev/null; do sleep 0.2; done
# iperf3 asks for random bytes: what a guest of a second does to have some is no part of the tests.
head -c 16 /dev/random > /dev/null
${tests.join("\n")}
poweroff -f
`;
  const programs = [...(await hostProgram(iperf3)), ...(await hostProgram(ping))];
  return benchInitrd(directory, values.initrd, init, programs);
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
