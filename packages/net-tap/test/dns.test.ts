import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { user, type UserNetOptions } from "../src/index.ts";
import { field, GuestCard, udp } from "./guest-card.ts";

const name = (text: string): number[] => [
  ...text.split(".").flatMap((label) => [label.length, ...new TextEncoder().encode(label)]),
  0,
];

/** A query (RFC 1035 §4.1) for one name: type 1 is A, 28 is AAAA. */
const query = (text: string, type = 1, id = 0x1234): number[] => [
  id >>> 8,
  id & 255,
  1,
  0,
  0,
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  ...name(text),
  0,
  type,
  0,
  1,
];

interface Answer {
  readonly id: number;
  readonly code: number;
  readonly data: readonly (readonly number[])[];
}

function answerOf(frame: Uint8Array): Answer {
  expect([field.source(frame), field.port(frame, 0)]).toEqual(["10.0.2.3", 53]);
  const bytes = field.udpPayload(frame);
  const count = ((bytes[6] ?? 0) << 8) | (bytes[7] ?? 0);
  let at = 12;
  while ((bytes[at] ?? 0) !== 0) at += 1 + (bytes[at] ?? 0);
  at += 5;
  const data = Array.from({ length: count }, () => {
    const length = bytes[at + 11] ?? 0;
    at += 12 + length;
    return [...bytes.subarray(at - length, at)];
  });
  return { id: ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0), code: (bytes[3] ?? 0) & 15, data };
}

/** A name server of the test: `respond` makes an answer of a query, or nothing. */
async function nameServer(
  respond: (query: Buffer, from: RemoteInfo, socket: Socket) => Uint8Array | undefined,
): Promise<AsyncDisposable & { readonly at: string; readonly asked: Buffer[] }> {
  const socket = createSocket("udp4");
  const asked: Buffer[] = [];
  socket.on("message", (message, from) => {
    asked.push(message);
    const answer = respond(message, from, socket);
    if (answer !== undefined) socket.send(answer, from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    at: `127.0.0.1:${socket.address().port}`,
    asked,
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, "close");
    },
  };
}

/** An answer with one record. */
const withRecord = (asked: Buffer, type: number, data: readonly number[]): Uint8Array =>
  Uint8Array.from([
    ...asked.subarray(0, 2),
    0x81,
    0x80,
    0,
    1,
    0,
    1,
    0,
    0,
    0,
    0,
    ...asked.subarray(12),
    0xc0,
    12,
    0,
    type,
    0,
    1,
    0,
    0,
    0,
    60,
    0,
    data.length,
    ...data,
  ]);

async function resolve(
  options: UserNetOptions,
  payload: readonly number[],
  to = "10.0.2.3",
): Promise<Answer> {
  const net = await user(options);
  try {
    const card = new GuestCard(net);
    const answer = card.next((frame) => field.protocol(frame) === 17 && field.port(frame, 0) === 53);
    card.send(udp(4000, 53, payload, { to }));
    return answerOf(await answer);
  } finally {
    await net.close();
  }
}

describe("names through user()", () => {
  const records = { "Build.Test.": ["10.0.2.2", "10.9.8.7", "fd00::5"] };

  it("come from the table, whatever their case, for both families", async () => {
    const a = await resolve({ dns: { records } }, query("bUILD.test"));
    expect(a).toEqual({
      id: 0x1234,
      code: 0,
      data: [
        [10, 0, 2, 2],
        [10, 9, 8, 7],
      ],
    });
    const aaaa = await resolve({ dns: { records } }, query("build.test", 28));
    expect(aaaa.data).toEqual([[0xfd, ...new Array<number>(14).fill(0), 5]]);
    expect((await resolve({ dns: { records } }, query("build.test", 16))).data).toEqual([]);
  });

  it("come from a server of the host's where the table has none", async () => {
    await using server = await nameServer((asked) => withRecord(asked, 1, [192, 0, 2, 7]));
    expect(await resolve({ dns: { servers: [server.at] } }, query("far.test"))).toEqual({
      id: 0x1234,
      code: 0,
      data: [[192, 0, 2, 7]],
    });
    expect([...(server.asked[0] ?? [])]).toEqual(query("far.test"));
  });

  it.each([
    ["this host's loopback", 1, [127, 0, 0, 1]],
    ["any address", 1, [0, 0, 0, 0]],
    ["a cloud's metadata", 1, [169, 254, 169, 254]],
    ["the guest's own gateway", 1, [10, 0, 2, 2]],
    ["IPv6 loopback", 28, [...new Array<number>(15).fill(0), 1]],
    ["loopback inside an IPv6 address", 28, [...new Array<number>(10).fill(0), 255, 255, 127, 0, 0, 1]],
    ["link-local IPv6", 28, [0xfe, 0x80, ...new Array<number>(13).fill(0), 1]],
    [
      "the guest's IPv6 network",
      28,
      [0xfd, 0x6e, 0x6f, 0x72, 0x74, 0x68, 0, 2, ...new Array<number>(7).fill(0), 2],
    ],
  ] as const)("are refused where they rebind to %s", async (_what, type, data) => {
    await using server = await nameServer((asked) => withRecord(asked, type, data));
    expect(await resolve({ dns: { servers: [server.at] } }, query("evil.test", type))).toEqual({
      id: 0x1234,
      code: 5,
      data: [],
    });
  });

  it("do not come from whoever answers first: address, port, id and name must be those of the question", async () => {
    const other = createSocket("udp4");
    try {
      await using server = await nameServer((asked, from, socket) => {
        other.send(withRecord(asked, 1, [6, 6, 6, 6]), from.port, from.address, () => {
          const wrongId = withRecord(asked, 1, [6, 6, 6, 6]);
          wrongId.set([~asked[0]! & 255]);
          other.send(wrongId, from.port, from.address);
        });
        const wrongName = withRecord(asked, 1, [6, 6, 6, 6]);
        wrongName.set(name("fat.test"), 12);
        socket.send(wrongName, from.port, from.address);
        // The case of a name is the server's.
        const right = withRecord(asked, 1, [192, 0, 2, 8]);
        right.set(name("FAR.test"), 12);
        return right;
      });
      expect((await resolve({ dns: { servers: [server.at] } }, query("far.test"))).data).toEqual([
        [192, 0, 2, 8],
      ]);
    } finally {
      other.close();
    }
  });

  it("fail over to the next server, and say so where all are down", async () => {
    await using down = await nameServer(() => undefined);
    await using server = await nameServer((asked) => withRecord(asked, 1, [192, 0, 2, 9]));
    const scheduler = hurried();
    const options = { scheduler, dns: { servers: [down.at, server.at] } };
    expect((await resolve(options, query("far.test"))).data).toEqual([[192, 0, 2, 9]]);
    const warnings: string[] = [];
    const warn = (line: string): number => warnings.push(line);
    expect(await resolve({ scheduler, warn, dns: { servers: [down.at] } }, query("far.test"))).toMatchObject({
      code: 2,
    });
    expect(await resolve({ warn, dns: { servers: [] } }, query("far.test"))).toMatchObject({ code: 2 });
    const remedy = "state others there, or addresses of names in dns.records";
    expect(warnings).toEqual([
      `dns.servers: no answer from ${down.at}: ${remedy}`,
      `dns.servers: this host names no resolver: ${remedy}`,
    ]);
  });
});

/** Time in which nobody is patient. */
const hurried = (): NonNullable<UserNetOptions["scheduler"]> => ({
  nowMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, Math.min(delayMs, 50));
    return {
      cancel: () => {
        clearTimeout(timer);
      },
    };
  },
  soon: queueMicrotask,
});
