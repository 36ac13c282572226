import { execFile, execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { namespaceObstacle, NetworkNamespace } from "../../../net-tap/test/network-namespace.ts";
import { mmio, runWithDevice } from "../testing/run-with-device.ts";
import { scratch } from "../../../net-tap/test/scratch.ts";

const runFile = promisify(execFile);
const MAIN = join(import.meta.dirname, "..", "main.ts");
const LINK = String.raw`devices\[0\]\.link`;
const card = (link: object): object => ({ plugin: "virtioNet", link, mmio });

describe("a network that no host could give is refused by `validate` and by `run`, in one line", () => {
  it.each<[string, object, RegExp]>([
    [
      "a network without a prefix",
      { kind: "user", subnet: "10.0.2.0" },
      /\.subnet: expected a network such as 10\.0\.2\.0\/24 with a prefix of 8 to 27, found "10\.0\.2\.0"$/,
    ],
    [
      "a prefix that is none",
      { kind: "user", subnet: "10.0.2.0/33" },
      /\.subnet: expected a network such as .*, found "10\.0\.2\.0\/33"$/,
    ],
    [
      "an address where a network is meant",
      { kind: "user", subnet: "10.0.2.1/24" },
      /\.subnet: "10\.0\.2\.1\/24" has bits of the host set: write 10\.0\.2\.0\/24$/,
    ],
    [
      "an IPv6 network that is none",
      { kind: "user", subnet6: "fd00::/129" },
      /\.subnet6: expected a network such as .*, found "fd00::\/129"$/,
    ],
    [
      "a rule for no network",
      { kind: "user", policy: [{ action: "deny", to: "10.0.0.0/8/8" }] },
      /\.policy\[0\]\.to: expected a network such as .*, found "10\.0\.0\.0\/8\/8"$/,
    ],
    [
      "a forwarding loop",
      {
        kind: "user",
        hostPorts: [{ guestPort: 80, hostPort: 8080 }],
        forwards: [{ hostPort: 8080, guestPort: 80 }],
      },
      /\.hostPorts\[0\]: a forwarding loop: port 8080 of the host is forwards\[0\], .*: remove one of the two$/,
    ],
    [
      "a resolver that is no address",
      { kind: "user", dns: { servers: ["dns.test"] } },
      /\.dns\.servers\[0\]: expected a name server such as .*, found "dns\.test"$/,
    ],
    [
      "a forward to where no guest is",
      { kind: "user", forwards: [{ hostPort: 0, guestPort: 22, guestAddress: "10.9.9.9" }] },
      /\.forwards\[0\]\.guestAddress: 10\.9\.9\.9 is not an address for guests of the subnet$/,
    ],
    [
      "an interface name that is too long",
      { kind: "tap", name: "sixteen-letters-" },
      /\.name: expected at most 15 bytes, found "sixteen-letters-"$/,
    ],
    [
      "an interface name that is none",
      { kind: "tap", name: "a b" },
      /\.name: expected the name of an interface, found "a b"$/,
    ],
    [
      "a filter of no addresses",
      { kind: "tap", macs: ["52:54"] },
      /\.macs\[0\]: expected a MAC address such as .*, found "52:54"$/,
    ],
    [
      "no place to connect to",
      { kind: "stream" },
      /\.port: expected a path, or a port from 1 to 65535, found neither$/,
    ],
    [
      "an address without a port",
      { kind: "dgram", local: "127.0.0.1", remote: "127.0.0.1:1" },
      /\.local: expected an address such as 127\.0\.0\.1:4444, found "127\.0\.0\.1"$/,
    ],
    [
      "a bad network behind a capture",
      { kind: "capture", path: "x.pcapng", link: { kind: "user", subnet: "x" } },
      /\.link\.subnet: expected a network such as .*, found "x"$/,
    ],
  ])("%s", async (_what, link, message) => {
    for (const command of ["validate", "run"] as const) {
      const { code, err } = await runWithDevice(card(link), { command });
      expect(err.trim()).toMatch(new RegExp(`${LINK}${message.source}`));
      expect([code, err.trim().split("\n").length]).toEqual([2, 1]);
    }
  });

  it("vhostNet too", async () => {
    const device = { plugin: "vhostNet", name: "sixteen-letters-" };
    for (const command of ["validate", "run"] as const) {
      const { code, err } = await runWithDevice(device, { command });
      expect([code, err.trim()]).toEqual([
        2,
        expect.stringMatching(/devices\[0\]\.name: expected at most 15 bytes, found "sixteen-letters-"$/),
      ]);
    }
  });
});

/** A guest that ends at once. */
const program = [() => ({ kind: "shutdown", detail: "triple fault" }) as const];

describe("a network that this host refuses is one line of `run` with the remedy, and no cable where it is not required", () => {
  /** Asserts the line, and that the same network that is not required leaves the machine running. */
  async function expectRefusal(
    device: object,
    path: string,
    reason: RegExp,
    machine = "bare-1",
  ): Promise<void> {
    const refused = await runWithDevice(device, { machine });
    const lines = refused.err.trim().split("\n");
    expect(lines).toEqual([expect.stringMatching(new RegExp(`devices\\[0\\]${path}: ${reason.source}`))]);
    expect(refused.code).toBe(1);
    const { link, ...rest } = device as { readonly link?: object };
    const optional = link === undefined ? { required: false } : { link: { ...link, required: false } };
    const goesOn = await runWithDevice({ ...rest, ...optional }, { machine, program });
    expect(goesOn.err).toMatch(new RegExp(`no network: ${reason.source}`));
    expect(goesOn.code).toBe(3); // what the guest ended with
  }

  it("a port that is bound already, of TCP and of UDP", async () => {
    await using tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const { port } = tcp.address() as AddressInfo;
    const taken = (at: number): RegExp =>
      new RegExp(
        String.raw`forwards\[0\]: cannot listen on 127\.0\.0\.1:${at}: it is taken: stop its owner, choose another, or 0`,
      );
    await expectRefusal(
      card({ kind: "user", forwards: [{ hostPort: port, guestPort: 22 }] }),
      "\\.link",
      taken(port),
    );
    const udp = createSocket("udp4").bind(0, "127.0.0.1");
    await once(udp, "listening");
    const forward = { protocol: "udp", hostPort: udp.address().port, guestPort: 53 };
    await expectRefusal(card({ kind: "user", forwards: [forward] }), "\\.link", taken(udp.address().port));
    udp.close();
  });

  it("a peer that does not listen", async () => {
    await expectRefusal(
      card({ kind: "stream", path: "/nowhere/lan.sock" }),
      "\\.link",
      /path: cannot connect to \/nowhere\/lan\.sock: .*: start the peer first, or set reconnectMs/,
    );
  });

  it("a host without vhost-net", async (context) => {
    const obstacle = namespaceObstacle();
    if (obstacle !== undefined) return context.skip(obstacle);
    await expectRefusal(
      { plugin: "vhostNet", name: "nbv%d", device: "/dev/nowhere" },
      "",
      /device: there is no \/dev\/nowhere: `modprobe vhost_net`, or use virtioNet with link: \{ kind: tap \}/,
      "pc-1",
    );
    await expectRefusal(
      { plugin: "vhostNet", name: "nbv%d", device: "/dev/null" },
      "",
      /device: expected the kernel's vhost-net at \/dev\/null: .*ENOTTY/,
      "pc-1",
    );
  });

  it("an interface that is taken, and one that is no tap", async (context) => {
    const obstacle = namespaceObstacle();
    if (obstacle !== undefined) return context.skip(obstacle);
    await using namespace = await NetworkNamespace.make();
    await namespace.run("ip", "link", "add", "br0", "type", "bridge");
    const link = { kind: "tap", name: "br0", namespace: namespace.name };
    await expectRefusal(card(link), "\\.link", /name: br0 is there and is no tap, .*: choose another name/);
  });

  it("a user who may not open taps", async (context) => {
    const obstacle = namespaceObstacle();
    if (obstacle !== undefined) return context.skip(`${obstacle}: who is no root is tried by root`);
    await using directory = await scratch();
    const file = join(directory.path, "machine.json");
    const config = { machine: "bare-1", memory: { mib: 1 }, devices: [card({ kind: "tap" })] };
    await writeFile(file, JSON.stringify(config));
    execFileSync("chmod", ["-R", "a+rX", directory.path]);
    const args = ["--conditions=northbridge-source", MAIN, "run", file, "--backend", "soft"];
    await expect(
      runFile(process.execPath, args, { uid: 65_534, gid: 65_534, cwd: "/" }),
    ).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^northbridge: .*devices\[0\]\.link: (kind|name): this user may not .*: `ip tuntap add mode tap user \$USER name NAME` as root, or run with CAP_NET_ADMIN, or use kind: user\n$/,
      ),
    });
  });
});
