import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { close, enterNetworkNamespace, openTapQueue, TunFlag } from "@northbridge/linux";
import type { NetBackend } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { patch, tap, type TapNet, user } from "../src/index.ts";
import { arp, GuestCard, guestMac } from "./guest-card.ts";
import { namespaceObstacle, NetworkNamespace } from "./network-namespace.ts";
import { has } from "./scratch.ts";

const obstacle = namespaceObstacle();
let count = 0;
const freshName = (): string => `nbu${process.pid % 100_000}x${(count += 1)}`;
/** iproute2 and util-linux: of the host, and in no package. */
const IP = "ip";
const SETPRIV = "setpriv";
const ip = (...args: readonly string[]): string =>
  execFileSync(IP, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const exists = (name: string): boolean =>
  ip("-br", "link")
    .split("\n")
    .some((line) => line.startsWith(`${name} `));

describe.skipIf(obstacle !== undefined)(`a tap${obstacle === undefined ? "" : `: ${obstacle}`}`, () => {
  it("is there, up, with its MTU, as long as it is open, and not a moment longer", async () => {
    const name = freshName();
    const net = tap({ name, mtu: 1400 });
    expect([net.name, net.mtu]).toEqual([name, 1400]);
    expect(ip("link", "show", name)).toMatch(/<[^>]*\bUP\b[^>]*> mtu 1400/);
    await net.close();
    expect(exists(name)).toBe(false);
  });

  it("stays where it is persistent, and is taken again by name or by descriptor", async () => {
    const name = freshName();
    await tap({ name, persistent: true }).close();
    expect(exists(name)).toBe(true);
    const again = tap({ name, persistent: false });
    expect(again.name).toBe(name);
    await again.close();
    expect(exists(name)).toBe(false);
  });

  it("is not left behind, persistent or not, where the host refuses the rest", () => {
    const name = freshName();
    expect(() => tap({ name, persistent: true, bridge: freshName() })).toThrow(/bridge/);
    expect(exists(name)).toBe(false);
  });

  it("numbers itself, and becomes a port of a bridge", async () => {
    const bridge = freshName();
    ip("link", "add", bridge, "type", "bridge");
    const net: TapNet[] = [];
    try {
      net.push(
        tap({ name: `${bridge.slice(0, 10)}_%d`, bridge }),
        tap({ name: `${bridge.slice(0, 10)}_%d`, bridge }),
      );
      expect(net.map(({ name }) => name.at(-1))).toEqual(["0", "1"]);
      for (const { name } of net) expect(ip("link", "show", name)).toContain(`master ${bridge}`);
    } finally {
      for (const one of net) await one.close();
      ip("link", "del", bridge);
    }
  });

  it("carries a flood of pings, with one queue and with four, and the kernel's counters agree", async (context) => {
    context.skip(namespaceObstacle("ping") !== undefined, "needs ping");
    for (const queues of [1, 4]) {
      await using namespace = await NetworkNamespace.make();
      const device = tap({ name: freshName(), up: false, queues });
      const net = await user();
      await namespace.take(device.name);
      patch(net, device);
      await namespace.run("ip", "addr", "add", "10.0.2.15/24", "dev", "eth0");
      const output = await namespace.run("ping", "-f", "-q", "-c", "2000", "10.0.2.2");
      expect(output).toContain("2000 packets transmitted, 2000 received, 0% packet loss");
      // The namespace's kernel may look for a router meanwhile, and is answered.
      const least = net.stats.framesToGuest;
      const statistics = await namespace.run("cat", "/sys/class/net/eth0/statistics/rx_packets");
      expect(Number(statistics)).toBeGreaterThanOrEqual(least);
      expect(Number(statistics)).toBeLessThanOrEqual(net.stats.framesToGuest);
      await net.close();
      await device.close();
    }
  });

  it("is in the network namespace that was asked for, with what is there", async () => {
    await using namespace = await NetworkNamespace.make();
    await namespace.run("ip", "link", "add", "br0", "type", "bridge");
    const name = freshName();
    const net = tap({ name, namespace: namespace.name, bridge: "br0" });
    expect(exists(name)).toBe(false);
    expect(await namespace.run("ip", "link", "show", name)).toMatch(/<[^>]*\bUP\b[^>]*> .* master br0/);
    await net.close();
    await expect(namespace.run("ip", "link", "show", name)).rejects.toThrow(/does not exist/);
    // And this thread is where it was.
    const here = tap({ name });
    expect(exists(name)).toBe(true);
    await here.close();
  });

  it("leaves frames with the kernel while the guest has no room, and loses none", async (context) => {
    context.skip(namespaceObstacle("ping") !== undefined, "needs ping");
    await using namespace = await NetworkNamespace.make();
    const net = tap({ name: freshName(), up: false });
    const card = new GuestCard(net);
    card.hasRoom = false;
    await namespace.take(net.name);
    await namespace.run("ip", "addr", "add", "10.9.9.1/24", "dev", "eth0");
    // Nobody answers: three questions for 10.9.9.9.
    await expect(namespace.run("ping", "-c", "1", "-W", "5", "10.9.9.9")).rejects.toThrow();
    expect(card.received).toEqual([]);
    card.hasRoom = true;
    net.resume();
    const questions = (): number => card.received.filter((frame) => frame[13] === 6).length;
    await expect.poll(questions, { timeout: 20_000 }).toBeGreaterThanOrEqual(3);
    await net.close();
  });

  it("loses frames while its interface is down or gone, and nothing else happens", async () => {
    const net = tap({ name: freshName(), up: false });
    const card = new GuestCard(net);
    card.send(arp(1, guestMac, "0.0.0.0", "10.0.2.2"));
    ip("link", "del", net.name);
    card.send(arp(1, guestMac, "0.0.0.0", "10.0.2.2"), new Uint8Array(3));
    // A guest that loads its driver anew.
    net.setOffloads?.({ checksum: true, tso4: true, tso6: true, ecn: false, uso: false });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await net.close();
  });

  it("pulls the guest's cable while it is down, has no carrier or is gone, but not where it is moved", async () => {
    const states: boolean[] = [];
    const watched = (net: TapNet): TapNet => {
      net.watchLink((isUp) => states.push(isUp));
      return net;
    };
    /** Waits until this is the last thing told. */
    const told = async (isUp: boolean, after: () => unknown): Promise<void> => {
      const count = states.length;
      await after();
      await expect.poll(() => states.slice(count), { timeout: 20_000 }).toEqual([isUp]);
    };
    const net = watched(tap({ name: freshName(), up: false }));
    expect(states).toEqual([false]);
    await told(true, () => ip("link", "set", net.name, "up"));
    await told(false, () => ip("link", "set", net.name, "carrier", "off"));
    await told(true, () => ip("link", "set", net.name, "carrier", "on"));
    await told(false, () => ip("link", "set", net.name, "down"));
    await told(true, () => ip("link", "set", net.name, "up"));
    await told(false, () => ip("link", "del", net.name));
    await net.close();

    await using namespace = await NetworkNamespace.make();
    const moved = watched(tap({ name: freshName(), up: false }));
    await told(true, () => namespace.take(moved.name));
    await moved.close();
    // One that is made elsewhere is watched there.
    const name = freshName();
    const there = watched(tap({ name, namespace: namespace.name }));
    expect(states.at(-1)).toBe(true);
    await told(false, () => namespace.run("ip", "link", "set", name, "down"));
    await there.close();
  });

  it("watches the interface that was opened elsewhere, and none that has only its name", async () => {
    await using namespace = await NetworkNamespace.make();
    const name = freshName();
    const leave = enterNetworkNamespace(`/run/netns/${namespace.name}`);
    const { fd } = openTapQueue(name, TunFlag.IFF_VNET_HDR);
    leave();
    const own = tap({ name, mtu: 1300 });
    await namespace.run("ip", "link", "set", name, "mtu", "1400", "up");
    const adopted = tap({ fds: [fd] });
    const states: boolean[] = [];
    adopted.watchLink((isUp) => states.push(isUp));
    expect([adopted.mtu, states]).toEqual([1400, [true]]);
    ip("link", "set", name, "carrier", "off");
    await namespace.run("ip", "link", "set", name, "carrier", "off");
    await expect.poll(() => states.at(-1)).toBe(false);
    ip("link", "set", name, "carrier", "on");
    await namespace.run("ip", "link", "set", name, "mtu", "1401");
    await namespace.run("ip", "link", "set", name, "carrier", "on");
    await expect.poll(() => states.at(-1)).toBe(true);
    expect(states).toEqual([true, false, true]);
    await adopted.close();
    await own.close();
  });

  it.skipIf(!has(SETPRIV))(
    "watches none of another network namespace that its user may not enter (needs setpriv)",
    async () => {
      await using namespace = await NetworkNamespace.make();
      const name = freshName();
      const leave = enterNetworkNamespace(`/run/netns/${namespace.name}`);
      const there = openTapQueue(name, TunFlag.IFF_VNET_HDR);
      leave();
      // One of the same name here, without a carrier.
      const here = openTapQueue(name, TunFlag.IFF_VNET_HDR);
      ip("link", "set", name, "mtu", "1300", "up");
      ip("link", "set", name, "carrier", "off");
      const adoptedBy = (fd: number, options = ""): string => {
        const source = `import { tap } from ${JSON.stringify(join(import.meta.dirname, "..", "src", "index.ts"))};
          try {
            const net = tap({ fds: [3] ${options} });
            net.watchLink((isUp) => console.log(net.mtu, isUp));
            await net.close();
          } catch (error) { console.log(error.code, error.message); }`;
        const without = "-net_admin,-sys_admin";
        const args = ["--bounding-set", without, "--inh-caps", without, process.execPath];
        const node = ["--conditions=northbridge-source", "--input-type=module", "-e", source];
        return execFileSync(SETPRIV, [...args, ...node], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "inherit", fd],
        });
      };
      expect(adoptedBy(there.fd)).toBe("1500 true\n");
      expect(adoptedBy(there.fd, ", mtu: 1400")).toMatch(
        /^NB_CONFIG mtu: the interface of fds is in a network/,
      );
      expect(adoptedBy(here.fd)).toBe("1300 false\n");
      close(there.fd);
      close(here.fd);
    },
  );

  it("hears of its carrier though more has changed meanwhile than the kernel keeps to tell", async () => {
    const [net, noise] = [tap({ name: freshName() }), tap({ name: freshName() })];
    const states: boolean[] = [];
    net.watchLink((isUp) => states.push(isUp));
    const changes = `link set ${noise.name} mtu 1400\nlink set ${noise.name} mtu 1300\n`.repeat(400);
    execFileSync(IP, ["-batch", "-"], { input: changes }); // the event loop hears of none of it until it is over
    await new Promise((resolve) => setImmediate(resolve));
    ip("link", "set", net.name, "down");
    await expect.poll(() => states, { timeout: 20_000 }).toEqual([true, false]);
    await net.close();
    await noise.close();
  });

  it("carries datagrams that are to be segmented whole, where both ends take them", async (context) => {
    context.skip(namespaceObstacle("perl") !== undefined, "needs perl");
    const ends = await Promise.all(
      [1, 2].map(async (host) => {
        const namespace = await NetworkNamespace.make();
        const net = tap({ name: freshName(), up: false });
        await namespace.take(net.name);
        await namespace.run("ip", "addr", "add", `10.9.9.${host}/24`, "dev", "eth0");
        return { namespace, net };
      }),
    );
    const [from, to] = ends;
    try {
      context.skip(
        from?.net.offloads?.uso !== true,
        "this kernel has no UDP segmentation of taps (Linux 6.2)",
      );
      let longest = 0;
      const spy: NetBackend = {
        mtu: to!.net.mtu,
        offloads: to!.net.offloads!,
        setOffloads: (taken) => to!.net.setOffloads?.(taken),
        send: (frame, header) => {
          longest = Math.max(longest, ...frame.map(({ length }) => length));
          return to!.net.send(frame, header);
        },
        connect: (...ends) => {
          to!.net.connect(...ends);
        },
        resume: () => {
          to!.net.resume();
        },
        close: () => Promise.resolve(),
      };
      patch(from!.net, spy);
      // Ten of 1000 bytes in one call (UDP_SEGMENT, udp(7)), once somebody listens.
      const socket = "use Socket; socket S,2,2,17; $a = sub { pack('Sna4x8', 2, 7, inet_aton($_[0])) };";
      const hear =
        "bind S, $a->('10.9.9.2'); $| = 1; print 'ready'; for (1..10) { recv S,$b,9999,0; print ' '.length $b }";
      const say = "setsockopt S,17,103,pack('i',1000); send S,'x' x 10000,0,$a->('10.9.9.2') or die $!";
      const heard = to!.namespace.run("perl", "-e", socket + hear);
      await to!.namespace.run("sh", "-c", "until grep -q :0007 /proc/net/udp; do sleep 0.05; done");
      await from!.namespace.run("perl", "-e", socket + say);
      expect(await heard).toBe(`ready${" 1000".repeat(10)}`);
      expect(longest).toBeGreaterThan(10_000);
    } finally {
      for (const { namespace, net } of ends) {
        await net.close();
        await namespace[Symbol.asyncDispose]();
      }
    }
  });

  it("gives up its descriptors", async () => {
    const before =
      readFileSync("/proc/self/stat", "latin1").length > 0 ? ip("-br", "link").split("\n").length : 0;
    for (let turn = 0; turn < 50; turn += 1) await tap({ name: freshName(), queues: 2 }).close();
    expect(ip("-br", "link").split("\n").length).toBe(before);
  });

  it.each([
    [{ name: "a-name-that-is-too-long" }, /^name: expected at most 15 bytes/],
    [{ name: "a b" }, /^name: expected the name of an interface/],
    [{ queues: 9 }, /^queues: expected a whole number from 1 to 8, found 9$/],
    [{ mtu: 20 }, /^mtu: expected a whole number from 68/],
    [{ namespace: "a/b" }, /^namespace: expected a name of `ip netns`, or a path, found "a\/b"$/],
    [{ fds: [] }, /^fds: expected at least one/],
    [{ fds: [3], name: "x" }, /^fds: the interface is there already/],
  ])("refuses %j as a config", (options, message) => {
    expect(() => tap(options)).toThrow(
      expect.objectContaining({ code: "NB_CONFIG", message: expect.stringMatching(message) }),
    );
  });

  it("tells a user without rights what to ask for", () => {
    const nobody = { uid: 65_534, gid: 65_534, cwd: "/", encoding: "utf8" } as const;
    expect(execFileSync(process.execPath, scriptOf({}), nobody)).toMatch(
      /^NB_HOST (kind|name): this user may not .* `ip tuntap add mode tap user \$USER name NAME` as root, or run with CAP_NET_ADMIN, or use kind: user\n$/,
    );
  });

  it.skipIf(!has(SETPRIV))(
    "is opened by the user for whom it was made, without rights: it is up (needs setpriv)",
    () => {
      const name = freshName();
      ip("tuntap", "add", "mode", "tap", "name", name, "user", "root");
      ip("link", "set", name, "up");
      try {
        const withoutRights = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin", process.execPath];
        const args = [...withoutRights, ...scriptOf({ name })];
        expect(execFileSync(SETPRIV, args, { encoding: "utf8" })).toBe(`${name}\n`);
      } finally {
        ip("tuntap", "del", "mode", "tap", "name", name);
      }
    },
  );

  it("says what to do where the host refuses", () => {
    const taken = tap({ name: freshName() });
    const refused = (options: Parameters<typeof tap>[0]): unknown => {
      try {
        return tap(options).close();
      } catch (error) {
        return error;
      }
    };
    expect(refused({ name: taken.name })).toMatchObject({
      code: "NB_HOST",
      message: `name: ${taken.name} is in use by another process: choose another, or end that one`,
    });
    expect(refused({ name: "lo" })).toMatchObject({
      message: "name: lo is there and is no tap, or has other queues: choose another name",
    });
    expect(refused({ name: freshName(), bridge: "nobridge" })).toMatchObject({
      message: "bridge: there is no bridge nobridge: `northbridge net setup` makes one",
    });
    expect(refused({ namespace: "nowhere" })).toMatchObject({
      message: "namespace: there is no namespace nowhere: `ip netns add nowhere`",
    });
    expect(refused({ namespace: "/dev/null" })).toMatchObject({
      message: expect.stringMatching(/^namespace: expected a network namespace: .*EINVAL/),
    });
    expect(refused({ fds: [0] })).toMatchObject({
      message: expect.stringMatching(/^fds: expected open queues of a tap/),
    });
    return taken.close();
  });
});

/** Arguments of a process that says what it has of `tap()`: the name, or the refusal. */
function scriptOf(options: Parameters<typeof tap>[0]): string[] {
  const source = `import { tap } from ${JSON.stringify(join(import.meta.dirname, "..", "src", "index.ts"))};
    try {
      const net = tap(${JSON.stringify(options)});
      console.log(net.name);
      await net.close();
    } catch (error) { console.log(error.code, error.message); }`;
  return ["--conditions=northbridge-source", "--input-type=module", "-e", source];
}
