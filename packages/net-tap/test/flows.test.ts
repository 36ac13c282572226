import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { describe, expect, it } from "vitest";
import { type Flow, user, type UserNet, type UserNetOptions } from "../src/index.ts";
import { arp, field, GuestCard, guestMac, tcp, udp } from "./guest-card.ts";
import { SteppedTime } from "./virtual-time.ts";

const SYN = 0x02;
const RST_ACK = 0x14;
const ACK = 0x10;

async function withNet<T>(
  options: UserNetOptions,
  body: (card: GuestCard, net: UserNet) => Promise<T>,
): Promise<T> {
  const net = await user(options);
  try {
    const card = new GuestCard(net);
    await card.answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    return await body(card, net);
  } finally {
    await net.close();
  }
}

/** What a SYN comes to: the flags of the answer, where there is one at once. */
const knock = async (card: GuestCard, to: string, port: number): Promise<number | undefined> => {
  const [answer] = await card.answers(tcp(4000, port, 1, SYN, { to }));
  return answer === undefined ? undefined : field.tcpFlags(answer);
};

const ownAddress = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === "IPv4" && !one.internal)?.address;

describe("what a guest of user() reaches", () => {
  it.each([
    "127.0.0.1",
    "127.255.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.1.1",
    "224.0.0.251",
    "240.0.0.1",
    "100.100.100.200",
    "10.0.2.2",
    "10.0.2.3",
    ...(ownAddress === undefined ? [] : [ownAddress]),
  ])("is not %s, unless that is stated", async (to) => {
    await withNet({}, async (card, net) => {
      const isMulticast = to.startsWith("224.");
      expect(await knock(card, to, 80)).toBe(isMulticast ? undefined : RST_ACK);
      expect(net.stats.tcpConnections).toBe(0);
      await card.answers(udp(4000, 123, [1, 2, 3], { to }));
      expect(net.stats.udpFlows).toBe(0);
    });
  });

  it.each([undefined, "0.0.0.0/0", "126.0.0.0/7", "168.0.0.0/5"])(
    "is not opened to the host by a rule that speaks of the outside: %s",
    async (to) => {
      await withNet({ policy: [{ action: "allow", to }] }, async (card) => {
        expect(await knock(card, "127.0.0.1", 80)).toBe(RST_ACK);
        expect(await knock(card, "169.254.169.254", 80)).toBe(RST_ACK);
      });
    },
  );

  it.skipIf(ownAddress === undefined)(
    "has this host's address only where a rule names it (needs a host with an address)",
    async () => {
      const own = ownAddress ?? "";
      const around = `${own.split(".")[0] ?? ""}.0.0.0/8`;
      await withNet({ policy: [{ action: "allow", to: around }] }, async (card, net) => {
        await card.answers(udp(4000, 9, [1], { to: own }));
        expect(net.stats.udpFlows).toBe(0);
      });
      const policy = [
        { action: "allow", to: around } as const,
        { action: "allow", to: `${own}/32` } as const,
      ];
      await withNet({ policy }, async (card, net) => {
        await card.answers(udp(4000, 9, [1], { to: own }));
        expect(net.stats.udpFlows).toBe(1);
      });
    },
  );

  it("follows the first rule that matches, by network, protocol and port", async () => {
    const policy = [
      { action: "deny", to: "127.0.0.2/32" },
      { action: "allow", to: "127.0.0.0/8", protocol: "udp", ports: [7] },
      { action: "deny" },
    ] as const;
    await withNet({ policy }, async (card, net) => {
      await card.answers(udp(4000, 7, [1], { to: "127.0.0.2" }));
      expect(net.stats.udpFlows).toBe(0);
      await card.answers(udp(4000, 8, [1], { to: "127.0.0.1" }));
      expect(net.stats.udpFlows).toBe(0);
      expect(await knock(card, "127.0.0.1", 7)).toBe(RST_ACK);
      expect(await knock(card, "192.0.2.1", 80)).toBe(RST_ACK);
      await card.answers(udp(4000, 7, [1], { to: "127.0.0.1" }));
      expect(net.stats.udpFlows).toBe(1);
    });
  });

  it("is asked of the hook, for host ports too, and its no is a no", async () => {
    const asked: Flow[] = [];
    const allow = (flow: Flow): boolean => {
      asked.push(flow);
      return false;
    };
    const options = {
      allow,
      hostPorts: [{ guestPort: 80, hostPort: 1 }],
      policy: [{ action: "allow", to: "192.0.2.0/24" }],
    } as const;
    await withNet(options, async (card) => {
      expect(await knock(card, "192.0.2.1", 443)).toBe(RST_ACK);
      expect(await knock(card, "10.0.2.2", 80)).toBe(RST_ACK);
      const from = { protocol: "tcp", guestAddress: "10.0.2.15", guestPort: 4000 };
      expect(asked).toEqual([
        { ...from, address: "192.0.2.1", port: 443, toHost: false },
        { ...from, address: "10.0.2.2", port: 80, toHost: true },
      ]);
    });
  });

  it("is decided once for the datagrams of a flow", async () => {
    let asked = 0;
    const allow = (): boolean => (asked += 1) > 0;
    await withNet({ allow, policy: [{ action: "allow", to: "127.0.0.1/32" }] }, async (card, net) => {
      for (let count = 0; count < 10; count += 1) {
        await card.answers(udp(4000, 9, [1], { to: "127.0.0.1" }), udp(4000, 10, [1], { to: "127.0.0.1" }));
      }
      expect([asked, net.stats.udpFlows]).toEqual([2, 1]);
    });
  });

  it("is nothing where the hook throws, or promises", async () => {
    const warnings: string[] = [];
    const warn = (line: string): number => warnings.push(line);
    const policy = [{ action: "allow", to: "127.0.0.1/32" }] as const;
    const throws = (): boolean => {
      throw new Error("no");
    };
    await withNet({ allow: throws, policy, warn }, async (card) => {
      expect(await knock(card, "127.0.0.1", 80)).toBe(RST_ACK);
      expect(await knock(card, "127.0.0.1", 81)).toBe(RST_ACK);
    });
    expect(warnings).toEqual(["allow: threw, which refuses the flow: Error: no"]);
    const promises = (() => Promise.resolve(false)) as unknown as () => boolean;
    await withNet({ allow: promises, policy }, async (card) => {
      expect(await knock(card, "127.0.0.1", 80)).toBe(RST_ACK);
    });
  });

  it("is nothing from a forged source, whatever the port", async () => {
    await withNet({ policy: [{ action: "allow", to: "127.0.0.0/8" }] }, async (card, net) => {
      await card.answers(udp(4000, 67, [1], { to: "127.0.0.1", from: "9.9.9.9" }));
      expect([net.stats.udpFlows, net.stats.framesRefused]).toEqual([0, 1]);
    });
  });

  it("is told to the guest by ICMP where a datagram is refused (RFC 1812 §5.2.7.1)", async () => {
    await withNet({}, async (card) => {
      const sent = udp(4000, 123, [1, 2, 3], { to: "127.0.0.1" });
      const [forbidden] = await card.answers(sent);
      expect([...field.body(forbidden!).subarray(0, 2)]).toEqual([3, 13]);
      // The header and eight bytes of what was refused (RFC 792).
      expect([...field.body(forbidden!).subarray(8)]).toEqual([...sent.subarray(14, 42)]);
      const [closed] = await card.answers(udp(4000, 123, [1], { to: "10.0.2.2" }));
      expect([...field.body(closed!).subarray(0, 2)]).toEqual([3, 3]);
    });
  });
});

describe("connections through user()", () => {
  const PROBES = 1000;
  const CLIENTS = 300;

  it("wait where the guest has no buffers: nothing of theirs is dropped, and all of it comes", async () => {
    const server = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const hostPorts = [{ guestPort: 80, hostPort: (server.address() as AddressInfo).port }];
    const clients: Socket[] = [];
    await withNet({ hostPorts, forwards: [{ hostPort: 0, guestPort: 22 }] }, async (card, net) => {
      const opened = card.next((frame) => field.protocol(frame) === 6);
      card.send(tcp(4000, 80, 1, SYN));
      const acknowledgment = field.tcpSequence(await opened) + 1;
      const from = card.received.length;
      card.hasRoom = false;
      card.send(tcp(4000, 80, 2, ACK, { acknowledgment }));
      // Each is one byte before what is expected, a keep-alive (RFC 9293 §3.8.4), and is answered.
      for (let turn = 0; turn < PROBES; turn += 1) card.send(tcp(4000, 80, 1, ACK, { acknowledgment }));
      while (clients.length < CLIENTS) {
        clients.push(connect({ host: "127.0.0.1", port: net.forwardedPorts[0] ?? 0 }));
      }
      while (net.stats.tcpConnections < CLIENTS + 1) await new Promise(setImmediate);
      card.hasRoom = true;
      net.resume();
      const segments = (flags: number): Uint8Array[] =>
        card.received.slice(from).filter((one) => field.protocol(one) === 6 && field.tcpFlags(one) === flags);
      // A SYN that waited for long goes again.
      const opening = (): number => new Set(segments(SYN).map((frame) => field.port(frame, 0))).size;
      while (opening() < CLIENTS || segments(ACK).length < PROBES) await new Promise(setImmediate);
      expect([opening(), segments(ACK).length, net.stats.framesDropped]).toEqual([CLIENTS, PROBES, 0]);
    });
    for (const client of clients) client.destroy();
    server.close();
  });
});

describe("datagrams through user()", () => {
  it("come back from whom they were sent to, and from nobody else", async () => {
    const echo = createSocket("udp4");
    const stranger = createSocket("udp4");
    echo.bind(0, "127.0.0.1");
    await once(echo, "listening");
    const arrived = once(echo, "message");
    const hostPorts = [{ protocol: "udp", guestPort: 7, hostPort: echo.address().port }] as const;
    await withNet({ hostPorts }, async (card) => {
      const answer = card.next((frame) => field.protocol(frame) === 17);
      card.send(udp(4000, 7, [1, 2, 3]));
      const [message, from] = (await arrived) as [Buffer, { port: number }];
      expect([...message]).toEqual([1, 2, 3]);
      await new Promise((sent) => {
        stranger.send(Uint8Array.of(9, 9), from.port, "127.0.0.1", sent);
      });
      echo.send(Uint8Array.of(4, 5), from.port, "127.0.0.1");
      const frame = await answer;
      expect([field.source(frame), field.port(frame, 0), field.port(frame, 2)]).toEqual([
        "10.0.2.2",
        7,
        4000,
      ]);
      expect([...field.udpPayload(frame).subarray(0, 2)]).toEqual([4, 5]);
      expect(card.received.filter((one) => field.protocol(one) === 17)).toHaveLength(1);
    });
    echo.close();
    stranger.close();
  });

  it("hold 512 ports of guests at a time, and 64 peers of each: the oldest give way", async () => {
    const to = "127.0.0.1";
    const [first, last] = [createSocket("udp4").bind(0, to), createSocket("udp4").bind(0, to)];
    await Promise.all([once(first, "listening"), once(last, "listening")]);
    await withNet({ policy: [{ action: "allow", to: "127.0.0.0/8" }] }, async (card, net) => {
      /** Where the guest's datagram to this peer comes from. */
      const ask = async (peer: typeof first): Promise<number> => {
        const arrived = once(peer, "message");
        card.send(udp(4000, peer.address().port, [1], { to }));
        const [, from] = (await arrived) as [Buffer, { port: number }];
        return from.port;
      };
      const port = await ask(first);
      for (let peer = 1; peer < 64; peer += 1) card.send(udp(4000, 9, [1], { to: `127.0.1.${peer}` }));
      expect(await ask(last)).toBe(port);
      // Of two answers, in this order, the second is the first to be heard.
      const heard = card.next((frame) => field.protocol(frame) === 17);
      await new Promise((sent) => {
        first.send(Uint8Array.of(2), port, to, sent);
      });
      last.send(Uint8Array.of(3), port, to);
      expect(field.udpPayload(await heard)[0]).toBe(3);

      for (let guestPort = 1; guestPort <= 600; guestPort += 1)
        card.send(udp(guestPort, 9, [1], { to: "127.0.1.1" }));
      expect(net.stats.udpFlows).toBe(512);
    });
    first.close();
    last.close();
  });

  it("reach a guest through a forwarded port, and its answers the client", async () => {
    const client = createSocket("udp4");
    const options = { forwards: [{ protocol: "udp", hostPort: 0, guestPort: 53 }] } as const;
    await withNet(options, async (card, net) => {
      const asked = card.next((frame) => field.protocol(frame) === 17);
      const answered = once(client, "message");
      client.send(Uint8Array.of(1, 2), net.forwardedPorts[0] ?? 0, "127.0.0.1");
      const frame = await asked;
      expect([field.source(frame), field.destination(frame), field.port(frame, 2)]).toEqual([
        "10.0.2.2",
        "10.0.2.15",
        53,
      ]);
      card.send(udp(53, field.port(frame, 0), [3, 4]));
      const [answer] = (await answered) as [Buffer];
      expect([...answer]).toEqual([3, 4]);
      // From another port of the guest: not the server that was asked.
      card.send(udp(54, field.port(frame, 0), [6, 6]));
      const [closed] = await card.answers();
      expect([...field.body(closed!).subarray(0, 2)]).toEqual([3, 3]);
    });
    client.close();
  });

  it("come back to their own client, though two ports of the host lead to one server", async () => {
    const clients = [createSocket("udp4"), createSocket("udp4")];
    const forward = { protocol: "udp", hostPort: 0, guestPort: 7 } as const;
    await withNet({ forwards: [forward, forward] }, async (card, net) => {
      for (const [index, client] of clients.entries()) {
        const asked = card.next((frame) => field.protocol(frame) === 17);
        const answered = once(client, "message");
        client.send(Uint8Array.of(index), net.forwardedPorts[index] ?? 0, "127.0.0.1");
        const frame = await asked;
        card.send(udp(7, field.port(frame, 0), [index + 8]));
        const [answer] = (await answered) as [Buffer];
        expect([...answer]).toEqual([index + 8]);
      }
    });
    for (const client of clients) client.close();
  });

  it("do not reach a client that has been silent for two minutes", async () => {
    const client = createSocket("udp4");
    const scheduler = new SteppedTime();
    await withNet(
      { scheduler, forwards: [{ protocol: "udp", hostPort: 0, guestPort: 7 }] },
      async (card, net) => {
        const asked = card.next((frame) => field.protocol(frame) === 17);
        client.send(Uint8Array.of(1), net.forwardedPorts[0] ?? 0, "127.0.0.1");
        const port = field.port(await asked, 0);

        scheduler.pass(119_000);
        expect(await card.answers(udp(7, port, [1]))).toEqual([]);

        scheduler.pass(1001);
        const [closed] = await card.answers(udp(7, port, [1]));
        expect([...field.body(closed!).subarray(0, 2)]).toEqual([3, 3]);
      },
    );
    client.close();
  });

  it("find a guest that has not spoken: its address is asked for, and the datagram kept", async () => {
    const client = createSocket("udp4");
    const net = await user({
      forwards: [{ protocol: "udp", hostPort: 0, guestPort: 9, guestAddress: "10.0.2.77" }],
    });
    const card = new GuestCard(net);
    const question = card.next((frame) => frame[13] === 6);
    client.send(Uint8Array.of(1, 2), net.forwardedPorts[0] ?? 0, "127.0.0.1");
    expect([...(await question).subarray(38, 42)]).toEqual([10, 0, 2, 77]);
    const datagram = card.next((frame) => field.protocol(frame) === 17);
    card.send(arp(2, guestMac, "10.0.2.77", "10.0.2.2"));
    expect([...field.udpPayload(await datagram).subarray(0, 2)]).toEqual([1, 2]);
    client.close();
    await net.close();
  });
});
