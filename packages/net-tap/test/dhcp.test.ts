import { describe, expect, it } from "vitest";
import { user, type UserNet, type UserNetOptions } from "../src/index.ts";
import { arp, echo, field, GuestCard, guestMac, otherMac, udp } from "./guest-card.ts";
import { SteppedTime } from "./virtual-time.ts";

const cookie = [0x63, 0x82, 0x53, 0x63];
const v4 = (text: string): number[] => text.split(".").map(Number);

/** A message of a client (RFC 2131 §2), with the options given. */
function message(
  mac: readonly number[],
  options: readonly number[],
  fields: { client?: string; relay?: string } = {},
): number[] {
  const bytes = new Array<number>(236).fill(0);
  bytes.splice(0, 8, 1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef);
  bytes.splice(12, 4, ...v4(fields.client ?? "0.0.0.0"));
  bytes.splice(24, 4, ...v4(fields.relay ?? "0.0.0.0"));
  bytes.splice(28, 6, ...mac);
  return [...bytes, ...cookie, ...options, 255];
}

const ask = (
  mac: readonly number[],
  options: readonly number[],
  fields?: { client?: string; relay?: string },
): Uint8Array => udp(68, 67, message(mac, options, fields), { from: "0.0.0.0", to: "255.255.255.255", mac });

const discover = (mac: readonly number[]): Uint8Array => ask(mac, [53, 1, 1]);
const request = (mac: readonly number[], address: string, server = "10.0.2.2"): Uint8Array =>
  ask(mac, [53, 1, 3, 50, 4, ...v4(address), 54, 4, ...v4(server)]);

interface Reply {
  readonly type: number;
  readonly address: string;
  readonly options: ReadonlyMap<number, readonly number[]>;
}

function replyOf(frame: Uint8Array | undefined): Reply | undefined {
  if (frame === undefined) return undefined;
  const bytes = field.udpPayload(frame);
  expect([bytes[0], field.port(frame, 0), field.port(frame, 2)]).toEqual([2, 67, 68]);
  expect([...bytes.subarray(4, 8)]).toEqual([0xde, 0xad, 0xbe, 0xef]);
  expect([...bytes.subarray(236, 240)]).toEqual(cookie);
  const options = new Map<number, readonly number[]>();
  for (let at = 240; bytes[at] !== 255; at += 2 + (bytes[at + 1] ?? 0)) {
    options.set(bytes[at] ?? 0, [...bytes.subarray(at + 2, at + 2 + (bytes[at + 1] ?? 0))]);
  }
  return { type: options.get(53)?.[0] ?? 0, address: bytes.subarray(16, 20).join("."), options };
}

async function withNet(
  options: UserNetOptions,
  body: (card: GuestCard, net: UserNet) => Promise<void>,
): Promise<void> {
  const net = await user(options);
  try {
    await body(new GuestCard(net), net);
  } finally {
    await net.close();
  }
}

const one = async (card: GuestCard, frame: Uint8Array): Promise<Reply | undefined> =>
  replyOf((await card.answers(frame))[0]);
const text = (value: readonly number[] | undefined): string => String.fromCharCode(...(value ?? []));

describe("the DHCP server of user() (RFC 2131)", () => {
  it("offers and gives an address with all that a guest needs to know (RFC 2132)", async () => {
    await withNet({ mtu: 1400, hostname: "guest", domain: "lan.test" }, async (card) => {
      const offer = await one(card, discover(guestMac));
      expect(offer).toMatchObject({ type: 2, address: "10.0.2.15" });
      const ack = await one(card, request(guestMac, "10.0.2.15"));
      expect(ack).toMatchObject({ type: 5, address: "10.0.2.15" });
      const { options } = ack!;
      expect(options.get(1)).toEqual([255, 255, 255, 0]);
      expect(options.get(3)).toEqual([10, 0, 2, 2]);
      expect(options.get(6)).toEqual([10, 0, 2, 3]);
      expect(options.get(54)).toEqual([10, 0, 2, 2]);
      expect(options.get(26)).toEqual([0x05, 0x78]);
      expect(options.get(51)).toEqual([0, 0, 0x0e, 0x10]);
      expect([text(options.get(12)), text(options.get(15))]).toEqual(["guest", "lan.test"]);
    });
  });

  it("keeps an address for its card, and the fixed ones for theirs", async () => {
    await withNet({ leases: { "52:54:00:66:66:66": "10.0.2.99" } }, async (card) => {
      expect(await one(card, request(guestMac, "10.0.2.15"))).toMatchObject({ type: 5 });
      expect(await one(card, discover(otherMac))).toMatchObject({ type: 2, address: "10.0.2.99" });
      expect(await one(card, request(otherMac, "10.0.2.15"))).toMatchObject({ type: 6 });
      expect(await one(card, request(guestMac, "10.0.2.99"))).toMatchObject({ type: 6 });
      expect(await one(card, request(otherMac, "10.0.2.99"))).toMatchObject({ type: 5 });
      expect(await one(card, discover(guestMac))).toMatchObject({ type: 2, address: "10.0.2.15" });
    });
  });

  it("keeps an address for a card that is silent as long as its lease, and then as long as there are others", async () => {
    const scheduler = new SteppedTime();
    await withNet({ scheduler }, async (card) => {
      const given = await one(card, request(guestMac, "10.0.2.15"));
      const [a = 0, b = 0, c = 0, d = 0] = given?.options.get(51) ?? [];
      const leaseMs = (((a << 24) | (b << 16) | (c << 8) | d) >>> 0) * 1000;
      scheduler.pass(leaseMs - 1000);
      expect(await one(card, request(otherMac, "10.0.2.15"))).toMatchObject({ type: 6 });
      scheduler.pass(2000);
      expect(await one(card, discover(otherMac))).toMatchObject({ address: "10.0.2.16" });
      expect(await one(card, request(guestMac, "10.0.2.15"))).toMatchObject({ type: 5 });
    });
  });

  it("offers another address to a guest that finds its own in use (RFC 2131 §4.3.3)", async () => {
    await withNet({}, async (card) => {
      await card.answers(request(guestMac, "10.0.2.15"));
      const decline = (address: string): Uint8Array => ask(guestMac, [53, 1, 4, 50, 4, ...v4(address)]);
      await card.answers(decline("10.0.2.15"));
      expect(await one(card, discover(guestMac))).toMatchObject({ type: 2, address: "10.0.2.16" });
      // Of what it does not have it says nothing.
      await card.answers(decline("10.0.2.16"));
      expect(await one(card, discover(otherMac))).toMatchObject({ type: 2, address: "10.0.2.16" });
    });
  });

  it("gives a fixed address to its card alone, and no card all others", async () => {
    const lastMac = [0x52, 0x54, 0, 0x77, 0x77, 0x77];
    await withNet({ leases: { "52:54:00:66:66:66": "10.0.2.99" } }, async (card, net) => {
      for (let host = 4; host < 255; host += 1) {
        card.send(arp(2, guestMac, `10.0.2.${host}`, "10.0.2.2"));
      }
      expect(net.stats.framesRefused).toBe(1);
      expect(await one(card, request(otherMac, "10.0.2.99"))).toMatchObject({ type: 5 });
      expect(await one(card, discover(lastMac))).toMatchObject({ type: 2 });
    });
  });

  it("refuses addresses outside of its range, and is silent where another server or a relay was meant", async () => {
    await withNet({}, async (card) => {
      expect(await one(card, request(guestMac, "192.168.1.9"))).toMatchObject({ type: 6 });
      expect(await one(card, request(guestMac, "10.0.2.2"))).toMatchObject({ type: 6 });
      expect(await card.answers(request(guestMac, "10.0.2.15", "10.0.2.77"))).toEqual([]);
      expect(await card.answers(ask(guestMac, [53, 1, 1], { relay: "10.0.2.50" }))).toEqual([]);
      // Speaks for another card than the frame's.
      const forged = udp(68, 67, message(otherMac, [53, 1, 1]), { from: "0.0.0.0", to: "255.255.255.255" });
      expect(await card.answers(forged)).toEqual([]);
    });
  });

  it("informs a guest that has an address, without a lease, and takes one back", async () => {
    await withNet({}, async (card) => {
      await card.answers(request(guestMac, "10.0.2.15"));
      const inform = udp(68, 67, message(guestMac, [53, 1, 8], { client: "10.0.2.15" }), { to: "10.0.2.2" });
      const ack = await one(card, inform);
      expect([ack?.type, ack?.address, ack?.options.has(51)]).toEqual([5, "0.0.0.0", false]);
      await card.answers(
        udp(68, 67, message(guestMac, [53, 1, 7], { client: "10.0.2.15" }), { to: "10.0.2.2" }),
      );
      expect(await one(card, discover(otherMac))).toMatchObject({ type: 2, address: "10.0.2.15" });
    });
  });

  it("survives a guest that asks for every address: who has one keeps it, and memory is bounded", async () => {
    await withNet({}, async (card, net) => {
      expect(await one(card, request(guestMac, "10.0.2.15"))).toMatchObject({ type: 5 });
      let given = 0;
      for (let index = 0; index < 1000; index += 1) {
        const mac = [0x52, 0x54, 1, 0, index >>> 8, index & 255];
        const offer = await one(card, discover(mac));
        if (offer === undefined) continue;
        expect(offer.address).not.toBe("10.0.2.15");
        given += (await one(card, request(mac, offer.address)))?.type === 5 ? 1 : 0;
      }
      // 10.0.2.15 to 10.0.2.254, less the first.
      expect(given).toBe(239);
      expect(await one(card, request(guestMac, "10.0.2.15"))).toMatchObject({
        type: 5,
        address: "10.0.2.15",
      });
      expect(await card.answers(echo([1]))).toHaveLength(1);
      expect(await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"))).toHaveLength(1);
      expect(net.stats.framesDropped).toBe(0);
    });
  });
});
