import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ethernetSwitch, hub, serveSwitch, stream } from "../src/index.ts";
import { ethernet, GuestCard } from "./guest-card.ts";
import { scratch } from "./scratch.ts";
import { VirtualTime } from "./virtual-time.ts";

const mac = (index: number): number[] => [2, 0, 0, 0, 0, index];
const all = [255, 255, 255, 255, 255, 255];
const frame = (to: readonly number[], from: readonly number[], mark: number): Uint8Array =>
  ethernet(to, from, 0x88b5, [mark]);
const marks = (card: GuestCard): number[] => card.received.map((one) => one[14] ?? -1);

describe("a switch", () => {
  it("floods what it does not know, and sends the rest where the address was seen (IEEE 802.1D §7.7)", () => {
    const fabric = ethernetSwitch();
    const [a, b, c] = [0, 1, 2].map(() => new GuestCard(fabric.port())) as [GuestCard, GuestCard, GuestCard];
    a.send(frame(mac(2), mac(1), 1)); // unknown: to all
    b.send(frame(mac(1), mac(2), 2)); // known: to a alone
    a.send(frame(mac(2), mac(1), 3));
    c.send(frame(all, mac(3), 4));
    c.send(frame(mac(1), mac(2), 5)); // b has moved to c's port
    a.send(frame(mac(2), mac(1), 6));
    a.send(frame(mac(1), mac(1), 7)); // to itself: nowhere
    expect([marks(a), marks(b), marks(c)]).toEqual([
      [2, 4, 5],
      [1, 3, 4],
      [1, 6],
    ]);
  });

  it("delivers each frame once to whom it is for, and never back, as a model of it says", () => {
    const step = fc.record({
      port: fc.nat(3),
      from: fc.integer({ min: 1, max: 6 }),
      to: fc.integer({ min: 1, max: 7 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, learns) => {
        const fabric = learns ? ethernetSwitch() : hub();
        const cards = [0, 1, 2, 3].map(() => new GuestCard(fabric.port()));
        const seen = new Map<number, number>();
        const expected: number[][] = [[], [], [], []];
        steps.forEach(({ port, from, to }, index) => {
          seen.set(from, port);
          const known = learns && to !== 7 ? seen.get(to) : undefined;
          for (const other of [0, 1, 2, 3]) {
            if (other !== port && (known === undefined || known === other))
              expected[other]?.push(index & 255);
          }
          cards[port]?.send(frame(to === 7 ? all : mac(to), mac(from), index & 255));
        });
        expect(cards.map(marks)).toEqual(expected);
      }),
    );
  });

  it("cuts a port off that leads to another one, tells whose frames went round, and tries it again later", () => {
    const time = new VirtualTime();
    const loops: string[] = [];
    const options = { scheduler: time, onLoop: (address: string) => loops.push(address) };
    for (const make of [ethernetSwitch, hub]) {
      const [one, two] = [make(options), make(options)];
      const [a, b] = [new GuestCard(one.port()), new GuestCard(two.port())];
      one.uplink(two.port());
      b.send(frame(all, mac(2), 1));
      expect(marks(a)).toEqual([1]);
      one.uplink(two.port());
      a.send(frame(all, mac(1), 2));
      expect(one.stats["loopsCut"]! + two.stats["loopsCut"]!).toBe(1);
      expect(loops.splice(0)).toEqual(["02:00:00:00:00:01"]);
      const heard = b.received.length;
      a.send(frame(all, mac(1), 3));
      b.send(frame(all, mac(2), 4));
      expect(marks(b).slice(heard)).toEqual([3]);
      expect(marks(a).filter((mark) => mark === 4)).toEqual([4]);
      time.after(10_001, () => undefined);
      time.run(time.nowMs() + 10_001);
      a.send(frame(all, mac(1), 5));
      expect(loops.splice(0)).toHaveLength(1);
    }
  });

  it("ends frames that go round, though their source is nobody's or not to be learnt", () => {
    const options = { scheduler: new VirtualTime() };
    const [one, two] = [ethernetSwitch(options), ethernetSwitch(options)];
    one.uplink(two.port());
    one.uplink(two.port());
    const [a, b] = [new GuestCard(one.port()), new GuestCard(two.port())];
    a.send(frame(all, all, 1));
    expect([marks(a), marks(b)]).toEqual([[], []]);
    for (let index = 0; index < 1024; index += 1)
      a.send(frame(mac(1), [2, 0, 1, 0, index >>> 8, index & 255], 0));
    a.send(frame(all, mac(9), 2));
    expect(one.stats["loopsCut"]! + two.stats["loopsCut"]!).toBeGreaterThan(0);
    expect(marks(b)).toContain(2);
  });

  it("holds frames for a port without room, up to a bound, in order", () => {
    const fabric = ethernetSwitch();
    const a = new GuestCard(fabric.port());
    const slow = fabric.port();
    const b = new GuestCard(slow);
    b.hasRoom = false;
    for (let index = 0; index < 1000; index += 1) a.send(frame(all, mac(1), index & 255));
    expect(fabric.framesDropped).toBe(1000 - 256);
    b.hasRoom = true;
    slow.resume();
    expect(marks(b)).toEqual(Array.from({ length: 256 }, (_, index) => index));
  });

  it("takes an answer given inside of a delivery", () => {
    const fabric = ethernetSwitch();
    const a = new GuestCard(fabric.port());
    const echoing = fabric.port();
    echoing.connect(
      (got) => {
        echoing.send([
          Uint8Array.from([...got.subarray(6, 12), ...mac(9), 0x88, 0xb5, (got[14] ?? 0) + 100]),
        ]);
        return true;
      },
      () => undefined,
    );
    a.send(frame(all, mac(1), 1), frame(mac(9), mac(1), 2));
    expect(marks(a)).toEqual([101, 102]);
  });

  it("does not grow with the addresses a guest makes up", () => {
    const fabric = ethernetSwitch();
    const a = new GuestCard(fabric.port());
    for (let index = 0; index < 10_000; index += 1)
      a.send(frame(all, [2, 0, 0, 0, index >>> 8, index & 255], 0));
    expect(fabric.stats["addresses"]).toBe(1024);
    // Another port's are learnt all the same.
    const [b, c] = [new GuestCard(fabric.port()), new GuestCard(fabric.port())];
    b.send(frame(all, mac(2), 2));
    const heard = c.received.length;
    a.send(frame(mac(2), mac(1), 3));
    expect([marks(b).at(-1), c.received.length]).toEqual([3, heard]);
    for (let port = 0; port < 5; port += 1) {
      const more = new GuestCard(fabric.port());
      for (let index = 0; index < 1100; index += 1)
        more.send(frame(mac(2), [2, 0, 0, port + 1, index >>> 8, index & 255], 0));
    }
    expect(fabric.stats["addresses"]).toBe(4096);
  });

  it("is joined over a Unix socket, and lets peers go", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "lan.sock");
    const fabric = ethernetSwitch();
    const served = await serveSwitch(fabric, { path });
    const here = new GuestCard(fabric.port());
    const [one, two] = [await stream({ path }), await stream({ path })];
    const [first, second] = [new GuestCard(one), new GuestCard(two)];
    const heard = Promise.all([here, second].map((card) => card.next(() => true)));
    first.send(frame(all, mac(1), 1));
    expect((await heard).map((got) => got[14])).toEqual([1, 1]);
    const answered = first.next(() => true);
    second.send(frame(mac(1), mac(2), 2));
    expect((await answered)[14]).toBe(2);
    expect(marks(here)).toEqual([1]);
    await one.close();
    while (fabric.stats["ports"] !== 2) await new Promise(setImmediate);
    await two.close();
    await served.close();
  });

  it("has room for 64 peers at a socket, and turns more away", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "lan.sock");
    const fabric = ethernetSwitch();
    const served = await serveSwitch(fabric, { path });
    const ports = async (count: number): Promise<void> => {
      while (fabric.stats["ports"] !== count) await new Promise(setImmediate);
    };
    const peers = await Promise.all(Array.from({ length: 64 }, () => stream({ path })));
    await ports(64);
    const late = await stream({ path });
    while (late.stats["isConnected"] !== 0) await new Promise(setImmediate);
    expect(fabric.stats["ports"]).toBe(64);
    // One that goes makes room.
    await peers[0]?.close();
    await ports(63);
    const next = await stream({ path });
    await ports(64);
    expect(next.stats["isConnected"]).toBe(1);
    for (const peer of [...peers, late, next]) await peer.close();
    await served.close();
  });
});
