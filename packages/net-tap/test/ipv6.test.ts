import { describe, expect, it } from "vitest";
import { user, type UserNet } from "../src/index.ts";
import { arp, ethernet, gatewayMac, GuestCard, guestMac, internetSum, otherMac } from "./guest-card.ts";
import { VirtualTime } from "./virtual-time.ts";

const linkLocal = (host: number): number[] => [0xfe, 0x80, ...new Array<number>(13).fill(0), host];
const ours = (host: number): number[] => [
  0xfd,
  0x6e,
  0x6f,
  0x72,
  0x74,
  0x68,
  0,
  2,
  ...new Array<number>(7).fill(0),
  host,
];
const unspecified = new Array<number>(16).fill(0);
const allNodes = [0xff, 2, ...new Array<number>(13).fill(0), 1];

/** An ICMPv6 message in a frame (RFC 4443 §2.1), its checksum right. */
function icmp6(
  message: readonly number[],
  from: readonly number[],
  to: readonly number[],
  mac: readonly number[] = guestMac,
  hopLimit = 255,
): Uint8Array {
  const body = [...message];
  const sum = internetSum([...from, ...to, 0, 0, 0, body.length, 0, 0, 0, 58, ...body]);
  body[2] = sum >>> 8;
  body[3] = sum & 255;
  return ethernet(gatewayMac, mac, 0x86dd, [
    0x60,
    0,
    0,
    0,
    0,
    body.length,
    58,
    hopLimit,
    ...from,
    ...to,
    ...body,
  ]);
}

const solicitation = (target: readonly number[], source: readonly number[] = guestMac): number[] => [
  135,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  ...target,
  1,
  1,
  ...source,
];
const advertisement = (target: readonly number[]): number[] => [
  136,
  0,
  0,
  0,
  0x60,
  0,
  0,
  0,
  ...target,
  2,
  1,
  ...otherMac,
];
const echo = [128, 0, 0, 0, 0, 1, 0, 1, 42];

async function withNet(body: (card: GuestCard, net: UserNet) => Promise<void>): Promise<void> {
  const net = await user();
  try {
    await body(new GuestCard(net), net);
  } finally {
    await net.close();
  }
}

/** Type of the ICMPv6 message of a frame, and its body. */
const typeOf = (frame: Uint8Array): number => frame[54] ?? 0;

describe("IPv6 on the link of user() (RFC 4861)", () => {
  it("says where the router and the name server are, and that both addresses are taken", async () => {
    await withNet(async (card) => {
      for (const target of [linkLocal(2), ours(2), ours(3)]) {
        const [answer] = await card.answers(icmp6(solicitation(target), linkLocal(9), target));
        expect(typeOf(answer!)).toBe(136);
        expect([...answer!.subarray(62, 78)]).toEqual(target);
        expect([...answer!.subarray(80, 86)]).toEqual([...gatewayMac]);
        // Who tries the address for itself hears it too, with all others (RFC 4862 §5.4.4).
        const [taken] = await card.answers(icmp6([135, 0, 0, 0, 0, 0, 0, 0, ...target], unspecified, target));
        expect([typeOf(taken!), ...taken!.subarray(38, 54)]).toEqual([136, ...allNodes]);
      }
      expect(await card.answers(icmp6(solicitation(ours(77)), linkLocal(9), ours(77)))).toEqual([]);
    });
  });

  it("advertises its prefix, its MTU and the name server to whoever asks", async () => {
    await withNet(async (card) => {
      const [answer] = await card.answers(icmp6([133, 0, 0, 0, 0, 0, 0, 0], unspecified, allNodes));
      expect([typeOf(answer!), answer![21], ...answer!.subarray(22, 38)]).toEqual([
        134,
        255,
        ...linkLocal(2),
      ]);
      const options = new Map<number, Uint8Array>();
      for (let at = 70; at < answer!.length; at += (answer![at + 1] ?? 0) * 8) {
        options.set(answer![at] ?? 0, answer!.subarray(at, at + (answer![at + 1] ?? 0) * 8));
      }
      expect([...options.keys()].sort((a, b) => a - b)).toEqual([1, 3, 5, 25]);
      expect([...options.get(3)!.subarray(2, 4)]).toEqual([64, 0xc0]);
      expect([...options.get(3)!.subarray(16)]).toEqual(ours(0));
      expect([...options.get(5)!.subarray(4)]).toEqual([0, 0, 5, 0xdc]);
      expect([...options.get(25)!.subarray(8)]).toEqual(ours(3));
    });
  });

  it("advertises unasked, long before what it said runs out (RFC 4861 §6.2.4)", async () => {
    const time = new VirtualTime();
    const net = await user({ scheduler: time });
    const card = new GuestCard(net);
    const heard: number[] = [];
    for (let second = 0; second < 7200; second += 1) {
      time.run(second * 1000);
      for (const frame of card.received.splice(0)) {
        expect([typeOf(frame), ...frame.subarray(0, 6), ...frame.subarray(38, 54)]).toEqual([
          134,
          ...[0x33, 0x33, 0, 0, 0, 1],
          ...allNodes,
        ]);
        heard.push(second);
      }
    }
    const gaps = heard.map((second, index) => second - (heard[index - 1] ?? 0));
    expect(Math.max(...gaps, 7200 - (heard.at(-1) ?? 0))).toBeLessThanOrEqual(600);
    expect(heard[0]).toBeLessThanOrEqual(16);
    await net.close();
  });

  it("believes no one who speaks for the router, for another card, or from afar", async () => {
    await withNet(async (card, net) => {
      expect(await card.answers(icmp6(echo, ours(9), ours(2)))).toHaveLength(1);
      const before = net.stats.framesRefused;
      const lies = [
        icmp6(advertisement(ours(2)), linkLocal(6), allNodes, otherMac), // the gateway's address
        icmp6(advertisement(linkLocal(2)), linkLocal(6), allNodes, otherMac),
        icmp6(advertisement(ours(9)), linkLocal(6), allNodes, otherMac), // the first guest's
        icmp6([134, 0, 0, 0, ...new Array<number>(12).fill(0)], linkLocal(6), allNodes, otherMac), // a router
        icmp6([137, 0, 0, 0, ...new Array<number>(36).fill(0)], linkLocal(6), allNodes, otherMac), // a redirect
        icmp6(echo, ours(9), ours(2), otherMac), // forged sources
        icmp6(echo, ours(2), ours(3), otherMac),
        icmp6(echo, [0x20, 1, ...new Array<number>(13).fill(0), 1], ours(2), otherMac),
        icmp6(solicitation(ours(2)), linkLocal(8), ours(2), guestMac, 254), // through a router (§7.1)
        icmp6(solicitation(ours(2), otherMac), linkLocal(8), ours(2)), // another card's address in the option
      ];
      expect(await card.answers(...lies)).toEqual([]);
      expect(net.stats.framesRefused - before).toBe(lies.length);
      const [answer] = await card.answers(
        icmp6(echo, ours(9), ours(2)),
        arp(1, guestMac, "0.0.0.0", "10.0.2.9"),
      );
      expect([typeOf(answer!), ...answer!.subarray(0, 6)]).toEqual([129, ...guestMac]);
    });
  });

  it("gives name server and search domain by stateless DHCPv6 (RFC 8415 §18.3.6)", async () => {
    const net = await user({ domain: "lan.test" });
    const card = new GuestCard(net);
    const servers = [0xff, 2, ...new Array<number>(11).fill(0), 1, 0, 2];
    const payload = [11, 1, 2, 3, 0, 1, 0, 2, 7, 7];
    const body = [2, 34, 2, 35, 0, 8 + payload.length, 0, 0, ...payload];
    const sum = internetSum([...linkLocal(9), ...servers, 0, 0, 0, body.length, 0, 0, 0, 17, ...body]);
    body[6] = sum >>> 8;
    body[7] = sum & 255;
    const [answer] = await card.answers(
      ethernet([0x33, 0x33, 0, 1, 0, 2], guestMac, 0x86dd, [
        0x60,
        0,
        0,
        0,
        0,
        body.length,
        17,
        1,
        ...linkLocal(9),
        ...servers,
        ...body,
      ]),
    );
    const reply = [...answer!.subarray(62)];
    expect(reply.slice(0, 4)).toEqual([7, 1, 2, 3]);
    const text = reply.join(",");
    expect(text).toContain([0, 2, 0, 10, 0, 3, 0, 1, ...gatewayMac].join(","));
    expect(text).toContain([0, 1, 0, 2, 7, 7].join(","));
    expect(text).toContain([0, 23, 0, 16, ...ours(3)].join(","));
    expect(text).toContain([0, 24, 0, 10, 3, 108, 97, 110, 4, 116, 101, 115, 116, 0].join(","));
    await net.close();
  });
});
