import { createServer } from "node:net";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { ControlledLink, hub } from "../src/index.ts";
import { kinds, machine, open } from "./config-machine.ts";
import { arp, ethernet, GuestCard, guestMac, otherMac } from "./guest-card.ts";
import { VirtualTime } from "./virtual-time.ts";

describe("network kinds of a machine's config", () => {
  it("are these", () => {
    expect([...kinds.keys()].sort()).toEqual(["capture", "dgram", "stream", "switch", "tap", "user"]);
  });

  it.each([
    ["user", { subnet: "10.0.2.1/24" }, 'subnet: "10.0.2.1/24" has bits of the host set: write 10.0.2.0/24'],
    [
      "user",
      { subnet: "10.0.0.0/33" },
      /^subnet: expected a network such as 10\.0\.2\.0\/24 with a prefix of 8 to 27/,
    ],
    [
      "user",
      {
        hostPorts: [{ guestPort: 80, hostPort: 8080 }],
        forwards: [
          { hostPort: 8081, guestPort: 80 },
          { hostAddress: "0.0.0.0", hostPort: 8080, guestPort: 80 },
        ],
      },
      /^hostPorts\[0\]: a forwarding loop: port 8080 of the host is forwards\[1\], .*: remove one of the two$/,
    ],
    [
      "user",
      { hostPorts: [{ guestPort: 80, path: "/tmp/x" }], forwards: [{ path: "/tmp/x", guestPort: 80 }] },
      /^hostPorts\[0\]: a forwarding loop: \/tmp\/x is forwards\[0\]/,
    ],
    ["user", { subnet6: "fd00::1/64" }, /^subnet6: "fd00::1\/64" has bits of the host set/],
    [
      "user",
      { mtu: 1000 },
      "mtu: expected a whole number from 1280 to 65520, found 1000; less than 1280 needs subnet6: false",
    ],
    [
      "user",
      { hostPorts: [{ guestPort: 0 }] },
      "hostPorts[0].guestPort: expected a port from 1 to 65535, found 0",
    ],
    [
      "user",
      { forwards: [{ guestPort: 22 }] },
      "forwards[0].hostPort: expected a port from 0 to 65535, found -1",
    ],
    [
      "user",
      { forwards: [{ guestPort: 22, hostPort: 0, guestAddress: "10.9.9.9" }] },
      "forwards[0].guestAddress: 10.9.9.9 is not an address for guests of the subnet",
    ],
    [
      "user",
      { forwards: [{ guestPort: 22, hostPort: 0, guestAddress: "10.0.2.2" }] },
      "forwards[0].guestAddress: 10.0.2.2 is not an address for guests of the subnet",
    ],
    [
      "user",
      { forwards: [{ guestPort: 22, path: `/${"x".repeat(110)}` }] },
      /^forwards\[0\]\.path: \/x+: its path has 111 bytes, and a Unix socket's may have 107$/,
    ],
    [
      "user",
      { hostPorts: [{ protocol: "udp", guestPort: 5, path: "/tmp/x" }] },
      "hostPorts[0].path: a Unix socket carries TCP only",
    ],
    [
      "user",
      { hostPorts: [{ guestPort: 5, path: `/${"x".repeat(110)}` }] },
      /^hostPorts\[0\]\.path: \/x+: its path has 111 bytes, and a Unix socket's may have 107$/,
    ],
    [
      "user",
      { hostPorts: [{ protocol: "udp", guestPort: 53 }] },
      "hostPorts[0].guestPort: the gateway answers DNS there itself",
    ],
    [
      "user",
      { hostPorts: [{ guestPort: 80 }, { guestPort: 80, hostPort: 81 }] },
      "hostPorts[1]: hostPorts[0] has tcp port 80 already",
    ],
    [
      "user",
      { leases: { "52:54:00:00:00:0a": "10.0.2.20", "52:54:00:00:00:0A": "10.0.2.21" } },
      'leases["52:54:00:00:00:0A"]: this card has another address above',
    ],
    ["stream", { port: 1, mtu: 0 }, "mtu: expected a whole number from 68 to 65535, found 0"],
    [
      "stream",
      { port: 1, reconnectMs: 0.5 },
      "reconnectMs: expected a whole number from 1 to 2147483647, found 0.5",
    ],
    [
      "dgram",
      { local: "127.0.0.1:0", remote: "127.0.0.1:1", mtu: 65_500 },
      "mtu: expected a whole number from 68 to 65493, found 65500",
    ],
    ["switch", { path: "/nowhere/lan.sock", mtu: -1 }, /^mtu: expected a whole number/],
    ["user", { policy: [{ action: "deny", to: "10.0.0.0" }] }, /^policy\[0\]\.to: expected a network/],
    ["user", { dns: { servers: ["nine"] } }, /^dns\.servers\[0\]: expected a name server such as/],
    [
      "user",
      { dns: { records: { "a.test": ["x"] } } },
      'dns.records["a.test"]: expected an IP address, found "x"',
    ],
    [
      "user",
      { leases: { "52:54:00:00:00:01": "10.0.2.255" } },
      /is not an address for guests of the subnet$/,
    ],
    ["user", { hostname: "two words" }, 'hostname: expected a name such as guest.test, found "two words"'],
    ["user", { macs: ["01:00:5e:00:00:01"] }, /^macs\[0\]: "01:00:5e:00:00:01" is a group address/],
    ["stream", {}, "port: expected a path, or a port from 1 to 65535, found neither"],
    [
      "stream",
      { path: "/nowhere/x.sock" },
      /^path: cannot connect to \/nowhere\/x\.sock: .*: start the peer first, or set reconnectMs$/,
    ],
    [
      "dgram",
      { local: "here", remote: "127.0.0.1:1" },
      'local: expected an address such as 127.0.0.1:4444, found "here"',
    ],
    [
      "switch",
      { path: "/nowhere/lan.sock" },
      /^path: \/nowhere\/lan\.sock: cannot listen: there is no directory \/nowhere$/,
    ],
    ["capture", { path: "/nowhere/x", link: { kind: "user" } }, /^path: cannot write \/nowhere\/x/],
  ] as const)("%s refuses %j in one line that names the option", async (kind, options, message) => {
    const failure = await open(kind, options, machine().context).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: expect.stringMatching(/^NB_(CONFIG|HOST)$/) });
    const text = (failure as Error).message;
    if (typeof message === "string") expect(text).toBe(message);
    else expect(text).toMatch(message);
    expect(text).not.toContain("\n");
  });

  it("say which port is taken, and go on without a cable where that is allowed", async () => {
    const owner = createServer().listen(0, "127.0.0.1");
    await once(owner, "listening");
    const bound = owner.address();
    const port = bound !== null && typeof bound === "object" ? bound.port : 0;
    const options = { forwards: [{ hostPort: port, guestPort: 22 }] };
    const reason = `forwards[0]: cannot listen on 127.0.0.1:${port}: it is taken: stop its owner, choose another, or 0 for any free port`;
    await expect(open("user", options, machine().context)).rejects.toThrow(reason);
    const { context, log, stats } = machine();
    const net = await open("user", { ...options, required: false }, context);
    const states: boolean[] = [];
    net.watchLink?.((isUp) => states.push(isUp));
    expect(net.send([new Uint8Array(60)])).toBe(true);
    expect([states, log(), stats()["isUp"]]).toEqual([[false], `net0: no network: ${reason}\n`, 0]);
    await net.close();
    owner.close();
    // A mistake in the config is one, required or not.
    await expect(open("user", { subnet: "x", required: false }, machine().context)).rejects.toMatchObject({
      code: "NB_CONFIG",
    });
  });

  it("let a guest use only the addresses stated, and count", async () => {
    const { context, stats } = machine();
    const net = await open(
      "user",
      { macs: [guestMac.map((byte) => byte.toString(16).padStart(2, "0")).join(":")] },
      context,
    );
    const card = new GuestCard(net);
    const asked = card.next(() => true);
    card.send(
      arp(1, otherMac, "0.0.0.0", "10.0.2.2"),
      ethernet(otherMac, guestMac, 0x88b5, []),
      arp(1, guestMac, "10.0.2.15", "10.0.2.2"),
    );
    await asked;
    expect(card.received).toHaveLength(1);
    expect(stats()).toMatchObject({
      isUp: 1,
      framesIn: 2,
      framesOut: 1,
      framesFiltered: 1,
      framesFromGuest: 2,
      tcpConnections: 0,
    });
    await net.close();
  });
});

describe("a controlled link", () => {
  it("lets pass what its limits say, in both directions, and holds back the rest", () => {
    const scheduler = new VirtualTime();
    const wire = hub();
    const limit = { framesPerSecond: 100 };
    const link = new ControlledLink(wire.port(), {
      limit: { fromGuest: limit, toGuest: limit },
      scheduler,
    });
    const peer = new GuestCard(wire.port());
    const frame = ethernet(otherMac, guestMac, 0x88b5, [1]);
    let queued = 500;
    let received = 0;
    const push = (): void => {
      while (queued > 0 && link.send([frame])) queued -= 1;
    };
    link.connect(() => (received += 1) > 0, push);
    push();
    for (let index = 0; index < 200; index += 1) peer.send(frame);
    scheduler.run(1000);
    // A hundred a second, and what had gathered before.
    expect(peer.received.length).toBeGreaterThan(95);
    expect(peer.received.length).toBeLessThan(125);
    expect(Math.abs(received - peer.received.length)).toBeLessThan(5);
    expect(link.stats.waits).toBeGreaterThan(10);
  });

  it("takes limits and addresses at the monitor, and shows its counters there", async () => {
    const scheduler = new VirtualTime();
    const wire = hub();
    const link = new ControlledLink(wire.port(), { scheduler });
    const ask = (line: string): Promise<string> => link.monitorCommand(line.split(" "));
    const peer = new GuestCard(wire.port());
    const frame = ethernet(otherMac, guestMac, 0x88b5, [1]);
    let queued = 500;
    const push = (): void => {
      while (queued > 0 && link.send([frame])) queued -= 1;
    };
    link.connect(() => true, push);
    expect(await ask("limit fromGuest framesPerSecond 100 bytesPerSecond 1e6")).toBe(
      "limit fromGuest framesPerSecond 100 bytesPerSecond 1e6",
    );
    push();
    scheduler.run(1000);
    expect(peer.received.length).toBeGreaterThan(95);
    expect(peer.received.length).toBeLessThan(125);
    // What waits goes at once when the limit does.
    await ask("limit fromGuest off");
    expect([queued, peer.received.length]).toEqual([0, 500]);
    await ask("limit toGuest framesPerSecond 1");
    for (let turn = 0; turn < 20; turn += 1) peer.send(frame);
    expect(link.stats.framesOut).toBe(16);
    await ask("limit toGuest off");
    expect(link.stats.framesOut).toBe(20);
    await ask("macs 52:54:00:00:00:01");
    link.send([frame]);
    await ask("macs any");
    link.send([frame]);
    expect(JSON.parse(await ask("stats"))).toEqual({ ...link.stats, framesIn: 501, framesFiltered: 1 });
    for (const [line, message] of [
      ["limit", "expected limit toGuest or limit fromGuest, found nothing"],
      ["limit toGuest", "expected off, bytesPerSecond N or framesPerSecond N, found nothing"],
      [
        "limit toGuest bytesPerSecond -1",
        "expected off, bytesPerSecond N or framesPerSecond N, found bytesPerSecond -1",
      ],
      ["macs x", /^macs\[0\]: expected/],
      ["fly", "expected link up, link down, announce, stats, limit or macs, found fly"],
    ] as const) {
      await expect(ask(line)).rejects.toThrow(message);
    }
  });
});
