import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, linkSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dgram, ethernetSwitch, serveSwitch, stream, user } from "../src/index.ts";
import { DgramNet } from "../src/socket/dgram.ts";
import { FrameReader, framed } from "../src/socket/frame-reader.ts";
import { arp, echo, ethernet, field, GuestCard, guestMac, udp } from "./guest-card.ts";
import { has, scratch } from "./scratch.ts";

/** A program that runs as long as its scope. */
function running(
  program: string,
  args: readonly string[],
): AsyncDisposable & { readonly child: ChildProcess } {
  const child = spawn(program, args, { stdio: "ignore" });
  return {
    child,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Until `made` says so; the program under test must still run. */
async function until(child: ChildProcess, made: () => boolean): Promise<void> {
  while (!made()) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Sends from one card until what is wanted arrives at another: a peer may not listen yet. */
async function insistTo(
  from: GuestCard,
  to: GuestCard,
  frame: Uint8Array,
  wanted: (frame: Uint8Array) => boolean,
): Promise<Uint8Array> {
  const arrived = to.next(wanted);
  const timer = setInterval(() => {
    from.send(frame);
  }, 100);
  from.send(frame);
  return arrived.finally(() => {
    clearInterval(timer);
  });
}

const insist = (
  card: GuestCard,
  frame: Uint8Array,
  wanted: (frame: Uint8Array) => boolean,
): Promise<Uint8Array> => insistTo(card, card, frame, wanted);

const marked = (to: readonly number[], mark: number): Uint8Array =>
  ethernet(to, guestMac, 0x88b5, [mark, 1, 2, 3]);
const all = [255, 255, 255, 255, 255, 255];
const dhcpDiscover = udp(
  68,
  67,
  [
    1,
    1,
    6,
    0,
    1,
    2,
    3,
    4,
    ...new Array<number>(20).fill(0),
    ...guestMac,
    ...new Array<number>(202).fill(0),
    0x63,
    0x82,
    0x53,
    0x63,
    53,
    1,
    1,
    255,
  ],
  { from: "0.0.0.0", to: "255.255.255.255" },
);
const isOffer = (frame: Uint8Array): boolean =>
  field.protocol(frame) === 17 && field.port(frame, 0) === 67 && field.port(frame, 2) === 68;

describe("the framing of QEMU's and passt's stream sockets", () => {
  it("finds the same frames however the stream is cut", () => {
    const frames = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 200 })), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((frame) => framed([frame], frame.length)));
        const reader = new FrameReader();
        const got: number[][] = [];
        for (let at = 0, index = 0; at < bytes.length; index += 1) {
          const end = at + (cuts[index] ?? 1000);
          reader.push(bytes.subarray(at, end));
          at = end;
          for (let frame = reader.peek(); frame !== undefined && frame !== "wrong"; frame = reader.peek()) {
            got.push([...frame]);
            reader.take(frame);
          }
        }
        expect(got).toEqual(sent.map((frame) => [...frame]));
        expect(reader.heldBytes).toBe(0);
      }),
    );
  });

  it("ends with a peer that speaks something else, and takes the next", async () => {
    const net = await stream({ listen: true, port: 0 });
    const states: boolean[] = [];
    net.watchLink((isUp) => states.push(isUp));
    const card = new GuestCard(net);
    for (const nonsense of [
      [0, 0, 0, 0],
      [255, 255, 255, 255],
    ]) {
      const socket = connect(net.port, "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(Uint8Array.from(nonsense));
      await once(socket, "close");
    }
    const peer = await stream({ port: net.port });
    const arrived = card.next(() => true);
    new GuestCard(peer).send(marked(all, 7));
    expect((await arrived)[14]).toBe(7);
    expect(states.slice(0, 4)).toEqual([false, true, false, true]);
    await peer.close();
    await net.close();
  });

  it("holds a peer back while the guest has no room, and looks for one that went", async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket.on("error", () => undefined))).listen(
      0,
      "127.0.0.1",
    );
    await once(server, "listening");
    const bound = server.address();
    const port = bound !== null && typeof bound === "object" ? bound.port : 0;
    const net = await stream({ port, reconnectMs: 5 });
    const card = new GuestCard(net);
    card.hasRoom = false;
    while (sockets[0] === undefined) await new Promise(setImmediate);
    const frame = marked(all, 1);
    const chunk = Buffer.concat(Array.from({ length: 1000 }, () => framed([frame], frame.length)));
    let sent = 0;
    // As much as the host's sockets hold, and then no more.
    while (sockets[0].write(chunk) || sent < 10) sent += 1;
    card.hasRoom = true;
    net.resume();
    while (card.received.length < (sent + 1) * 1000) await new Promise(setImmediate);
    const states: boolean[] = [];
    net.watchLink((isUp) => states.push(isUp));
    sockets[0].destroy();
    while (states.at(-1) !== true || states.length < 3) await new Promise(setImmediate);
    expect(states).toEqual([true, false, true]);
    await net.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

describe("joined to others", () => {
  it.skipIf(!has("passt"))("gets an address and echo replies from passt (needs passt)", async () => {
    await using directory = await scratch();
    chmodSync(directory.path, 0o777);
    const path = join(directory.path, "passt.sock");
    await using passt = running("passt", [
      "-f",
      "-q",
      "-s",
      path,
      "-1",
      "--no-map-gw",
      "-a",
      "10.7.7.7",
      "-g",
      "10.7.7.1",
      "-n",
      "24",
      "-m",
      "1500",
    ]);
    await until(passt.child, () => existsSync(path));
    // Its socket is there before it listens.
    const net = await stream({ path, reconnectMs: 20 });
    const card = new GuestCard(net);
    const offer = await insist(card, dhcpDiscover, isOffer);
    expect([...field.udpPayload(offer).subarray(16, 20)]).toEqual([10, 7, 7, 7]);
    const reply = await insist(
      card,
      arp(1, guestMac, "10.7.7.7", "10.7.7.1"),
      (frame) => frame[13] === 6 && frame[21] === 2,
    );
    expect([...reply.subarray(28, 32)]).toEqual([10, 7, 7, 1]);
    await net.close();
  });

  it.skipIf(!has("qemu-system-x86_64"))(
    "speaks QEMU's -netdev stream and dgram, through QEMU's own hub (needs qemu-system-x86_64)",
    async () => {
      await using directory = await scratch();
      const path = join(directory.path, "lan.sock");
      const fabric = ethernetSwitch();
      const served = await serveSwitch(fabric, { path });
      const here = new GuestCard(fabric.port());
      // A port of QEMU's that is free: taken by us for a moment.
      const probe = await DgramNet.open({ local: "127.0.0.1:0", remote: "127.0.0.1:1" });
      const theirs = probe.port;
      await probe.close();
      const net = await DgramNet.open({ local: "127.0.0.1:0", remote: `127.0.0.1:${theirs}` });
      const there = new GuestCard(net);
      const [ours, qemus] = [join(directory.path, "ours.sock"), join(directory.path, "qemus.sock")];
      const unix = await dgram({ local: ours, remote: qemus });
      const beside = new GuestCard(unix);
      await using qemu = running("qemu-system-x86_64", [
        "-M",
        "none",
        "-display",
        "none",
        "-netdev",
        `stream,id=s,server=off,addr.type=unix,addr.path=${path}`,
        "-netdev",
        "hubport,id=hs,hubid=0,netdev=s",
        "-netdev",
        `dgram,id=d,local.type=inet,local.host=127.0.0.1,local.port=${theirs},remote.type=inet,remote.host=127.0.0.1,remote.port=${net.port}`,
        "-netdev",
        "hubport,id=hd,hubid=0,netdev=d",
        "-netdev",
        `dgram,id=x,local.type=unix,local.path=${qemus},remote.type=unix,remote.path=${ours}`,
        "-netdev",
        "hubport,id=hx,hubid=0,netdev=x",
        "-netdev",
        "user,id=u",
        "-netdev",
        "hubport,id=hu,hubid=0,netdev=u",
      ]);
      await until(qemu.child, () => fabric.stats["ports"] === 2);
      const isMarked =
        (mark: number) =>
        (frame: Uint8Array): boolean =>
          frame[12] === 0x88 && frame[14] === mark;
      expect([...(await insistTo(here, there, marked(all, 1), isMarked(1)))]).toEqual([...marked(all, 1)]);
      expect([...(await insistTo(there, here, marked(all, 2), isMarked(2)))]).toEqual([...marked(all, 2)]);
      expect([...(await insistTo(here, beside, marked(all, 3), isMarked(3)))]).toEqual([...marked(all, 3)]);
      expect([...(await insistTo(beside, there, marked(all, 4), isMarked(4)))]).toEqual([...marked(all, 4)]);
      // QEMU's user network is on the same hub: its DHCP server answers through our switch.
      const offer = await insist(here, dhcpDiscover, isOffer);
      expect([...field.udpPayload(offer).subarray(16, 20)]).toEqual([10, 0, 2, 15]);
      await unix.close();
      await net.close();
      await served.close();
    },
  );

  it("carries frames between Unix sockets, waits for a slow peer, and finds one that came again", async () => {
    await using directory = await scratch();
    const [a, b] = [join(directory.path, "a"), join(directory.path, "b")];
    const one = await dgram({ local: a, remote: b });
    const card = new GuestCard(one);
    card.send(marked(all, 0)); // nobody is there
    expect(one.framesDropped).toBe(1);
    const other = await dgram({ local: b, remote: a });
    const peer = new GuestCard(other);
    peer.hasRoom = false;
    let queued = 1000;
    const frame = marked(all, 1);
    const push = (): void => {
      while (queued > 0 && one.send([frame])) queued -= 1;
    };
    one.connect(() => true, push);
    push();
    expect(queued).toBeGreaterThan(0); // the kernel holds a few
    peer.hasRoom = true;
    other.resume();
    while (peer.received.length < 1000) await new Promise(setImmediate);
    expect(one.framesDropped).toBe(1);
    await expect(dgram({ local: a, remote: b })).rejects.toThrow(
      `local: ${a}: cannot listen: somebody listens there`,
    );
    await expect(dgram({ local: join(directory.path, "c"), remote: "127.0.0.1:1" })).rejects.toThrow(
      /^remote: expected the path of a socket/,
    );
    await other.close();
    const again = await dgram({ local: b, remote: a });
    const arrived = new GuestCard(again).next(() => true);
    one.send([marked(all, 2)]);
    expect((await arrived)[14]).toBe(2);
    await again.close();
    await one.close();
    expect(existsSync(a)).toBe(false);
  });

  it("shares one user() among all ports of a switch, each guest with an address of its own", async () => {
    const fabric = ethernetSwitch();
    const net = await user();
    fabric.uplink(net);
    const one = new GuestCard(fabric.port());
    const two = new GuestCard(fabric.port());
    const first = one.next((frame) => frame[13] === 0);
    one.send(echo([1]));
    expect([...(await first).subarray(0, 6)]).toEqual([...guestMac]);
    const other = [2, 0, 0, 0, 0, 9];
    const second = two.next((frame) => frame[13] === 0 && frame[5] === 9);
    two.send(echo([2], { from: "10.0.2.16", mac: other }));
    expect(field.destination(await second)).toBe("10.0.2.16");
    await net.close();
  });
});

describe("a back end that is closed", () => {
  it("loses what is sent, opens nothing, and may be closed again", async () => {
    const frame = arp(1, guestMac, "10.0.2.15", "10.0.2.2");
    const datagrams = await dgram({ local: "127.0.0.1:0", remote: "127.0.0.1:9" });
    const nat = await user();
    for (const net of [datagrams, nat]) {
      await net.close();
      expect(net.send([frame])).toBe(true);
      await net.close();
    }
    new GuestCard(nat).send(udp(1000, 7, [1], { to: "192.0.2.1" }));
    expect(nat.stats).toMatchObject({ framesFromGuest: 0, framesToGuest: 0, udpFlows: 0 });
  });
});

describe("a forwarded Unix socket", () => {
  it("takes the place of one whose process is gone, and of no other", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "ssh.sock");
    const owner = createServer().listen(`${path}.of`);
    await once(owner, "listening");
    linkSync(`${path}.of`, path);
    const forwards = [{ path, guestPort: 22 }];
    await expect(user({ forwards })).rejects.toThrow(
      `forwards[0]: ${path}: cannot listen: somebody listens there`,
    );
    owner.close();
    await once(owner, "close");
    const net = await user({ forwards });
    await net.close();
  });
});
