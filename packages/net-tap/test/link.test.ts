import { describe, expect, it } from "vitest";
import { user } from "../src/index.ts";
import {
  arp,
  echo,
  ethernet,
  field,
  gatewayMac,
  GuestCard,
  guestMac,
  ipv4,
  otherMac,
  tcp,
  udp,
} from "./guest-card.ts";

const sumOf = async (card: GuestCard, ...frames: readonly Uint8Array[]): Promise<number> =>
  (await card.answers(...frames)).length;

describe("the link of user()", () => {
  it("answers ARP for the gateway and the name server, and for nobody else (RFC 826)", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    for (const target of ["10.0.2.2", "10.0.2.3"]) {
      const [reply, ...more] = await card.answers(arp(1, guestMac, "10.0.2.15", target));
      expect(more).toEqual([]);
      expect([...(reply?.subarray(0, 42) ?? [])]).toEqual([
        ...ethernet(guestMac, gatewayMac, 0x0806, [
          0,
          1,
          8,
          0,
          6,
          4,
          0,
          2,
          ...gatewayMac,
          ...target.split(".").map(Number),
          ...guestMac,
          10,
          0,
          2,
          15,
        ]),
      ]);
    }
    for (const target of ["10.0.2.4", "10.0.2.15", "192.168.1.1", "255.255.255.255"]) {
      expect(await sumOf(card, arp(1, guestMac, "10.0.2.15", target))).toBe(0);
    }
  });

  it("does not believe a card that claims the gateway, another's address, or another card's name", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    const before = net.stats.framesRefused;
    const lies = [
      arp(2, otherMac, "10.0.2.2", "10.0.2.2"), // the gateway
      arp(2, otherMac, "10.0.2.3", "10.0.2.15"), // the name server
      arp(1, otherMac, "10.0.2.15", "10.0.2.2"), // the guest that was first
      arp(2, guestMac, "10.0.2.20", "10.0.2.2", otherMac), // for somebody else
      arp(1, otherMac, "192.168.7.7", "10.0.2.2"), // out of nowhere
    ];
    expect(await sumOf(card, ...lies)).toBe(0);
    expect(net.stats.framesRefused - before).toBe(lies.length);
    // The first keeps its address: answers still go to its card.
    const [reply] = await card.answers(echo([1, 2, 3]));
    expect([...(reply?.subarray(0, 6) ?? [])]).toEqual([...guestMac]);
  });

  it("drops what a guest sends from addresses that are not its own", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    const forged = [
      "10.0.2.2",
      "10.0.2.3",
      "10.0.2.0",
      "10.0.2.255",
      "127.0.0.1",
      "8.8.8.8",
      "0.0.0.0",
      "255.255.255.255",
      "224.0.0.1",
    ];
    for (const from of forged) {
      const before = net.stats.framesRefused;
      expect(
        await sumOf(card, echo([1], { from }), udp(1, 53, [1], { from }), tcp(1, 80, 1, 2, { from })),
      ).toBe(0);
      expect(net.stats.framesRefused - before).toBe(3);
    }
    // Another card with the guest's address.
    expect(await sumOf(card, echo([1], { mac: otherMac }))).toBe(0);
  });

  it("answers echo requests to its own addresses with what came, and counts wrong checksums", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    const payload = Array.from({ length: 1200 }, (_, index) => index & 255);
    const [reply, ...more] = await card.answers(echo(payload, { to: "10.0.2.3" }));
    expect(more).toEqual([]);
    expect([field.source(reply!), field.destination(reply!)]).toEqual(["10.0.2.3", "10.0.2.15"]);
    expect([...field.body(reply!).subarray(0, 2)]).toEqual([0, 0]);
    expect([...field.body(reply!).subarray(8)]).toEqual(payload);
    expect(await sumOf(card, echo([1], { to: "1.1.1.1" }))).toBe(0);
    const broken = echo(payload);
    broken[60]! ^= 1;
    const before = net.stats.framesRefused;
    expect(await sumOf(card, broken)).toBe(0);
    expect(net.stats.framesRefused - before).toBe(1);
  });

  it("puts fragments together in any order, once, and drops datagrams whose pieces overlap (RFC 5722)", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    const whole = [...echo(Array.from({ length: 64 }, (_, index) => index)).subarray(34)];
    const piece = (from: number, to: number, id: number): Uint8Array =>
      ipv4(1, whole.slice(from, to), { id, fragment: (from / 8) | (to < whole.length ? 0x2000 : 0) });
    expect(await sumOf(card, piece(48, 72, 1), piece(0, 24, 1), piece(0, 24, 1))).toBe(0);
    const [reply] = await card.answers(piece(24, 48, 1));
    expect([...field.body(reply!).subarray(8)]).toEqual(whole.slice(8));
    expect(await sumOf(card, piece(0, 32, 2), piece(24, 48, 2), piece(48, 72, 2), piece(32, 48, 2))).toBe(0);
  });

  it("keeps no fragment of a forged source: it spoils nobody's datagram", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    const whole = [...echo(Array.from({ length: 64 }, (_, index) => index)).subarray(34)];
    await card.answers(ipv4(1, whole.slice(0, 24), { fragment: 0x2000 }));
    await card.answers(ipv4(1, whole.slice(0, 40), { fragment: 0x2000 | 2, mac: otherMac }));
    expect(net.stats.framesRefused).toBe(1);
    expect(await sumOf(card, ipv4(1, whole.slice(24), { fragment: 3 }))).toBe(1);
  });

  it("holds frames back while the guest has no buffers, drops beyond a bound, and goes on", async () => {
    await using net = await opened();
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    card.hasRoom = false;
    for (let index = 0; index < 6000; index += 1) card.send(echo([index & 255, index >>> 8]));
    await Promise.resolve();
    const before = card.received.length;
    expect(net.stats.framesDropped).toBeGreaterThan(1000);
    card.hasRoom = true;
    net.resume();
    await new Promise(setImmediate);
    // One more question, and the marker's answer behind it.
    expect(await card.answers(echo([7]))).toHaveLength(1);
    expect(card.received.length - before + net.stats.framesDropped).toBe(6000 + 2);
  });
});

const opened = async (): Promise<Awaited<ReturnType<typeof user>> & AsyncDisposable> => {
  const net = await user();
  return Object.assign(net, { [Symbol.asyncDispose]: () => net.close() });
};
