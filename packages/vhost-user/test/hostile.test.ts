import { openSync, readdirSync, writeSync } from "node:fs";
import { addSeals, close, createMemfd, EventFd, Seal, socketPair } from "@northbridge/linux";
import { VirtioBlk } from "@northbridge/devices-virtio";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VhostUserTarget } from "../src/conformance/index.ts";
import { FrontEnd } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { Request } from "../src/protocol/spec.ts";
import { createMemory, memoryDisk } from "./devices.ts";
import { RawFrontEnd, turn } from "./raw-front-end.ts";

const NEED_REPLY = 8;
const REPLY_ACK = 1 << 3;
const MEMORY = 1 << 20;

const backendOf = (sealedMemory = false) =>
  new VhostUserBackend({
    device: new VirtioBlk({ backend: memoryDisk(), serial: "disk" }),
    createMemory,
    sealedMemory,
  });

const u64 = (...values: readonly (number | bigint)[]): Uint8Array => {
  const bytes = new Uint8Array(8 * values.length);
  values.forEach((value, i) => {
    new DataView(bytes.buffer).setBigUint64(8 * i, BigInt(value), true);
  });
  return bytes;
};
const u32 = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const table = (...regions: readonly (readonly (number | bigint)[])[]): Uint8Array =>
  Uint8Array.from([...u32(regions.length, 0), ...regions.flatMap((region) => [...u64(...region)])]);

/** A well-behaved front end finds the device at work. */
async function expectAlive(backend: VhostUserBackend): Promise<void> {
  const [ours, theirs] = socketPair();
  const served = backend.serve(theirs);
  const target = await VhostUserTarget.over(new FrontEnd(ours), [64]);
  expect((await target.config(8))?.[1]).toBe(0x08); // 2048 sectors
  await target.close();
  expect(await served).toBe("closed");
}

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("a front end that makes mistakes (needs Linux on x86-64)", () => {
  interface Mistake {
    readonly name: string;
    readonly reason: string;
    readonly make: (front: RawFrontEnd, memfd: number, event: EventFd) => void;
  }
  const mistakes: readonly Mistake[] = [
    { name: "another version", reason: "version", make: (f) => f.sendBytes(u32(1, 2, 0)) },
    { name: "a payload without end", reason: "tooLong", make: (f) => f.sendBytes(u32(1, 1, 0xffff_ffff)) },
    {
      name: "half a message",
      reason: "truncated",
      make: (f) => {
        f.sendBytes(u32(2, 1, 8, 5));
        f.close();
      },
    },
    { name: "a reply", reason: "malformed", make: (f) => f.send(1, undefined, [], 4) },
    { name: "a short payload", reason: "malformed", make: (f) => f.send(Request.SET_FEATURES, u32(1)) },
    { name: "an unknown message", reason: "unknownMessage", make: (f) => f.send(99) },
    {
      name: "no VERSION_1",
      reason: "featureVersion1Missing",
      make: (f) => f.send(Request.SET_FEATURES, u64(0)),
    },
    {
      name: "a feature that is not offered",
      reason: "feature33",
      make: (f) => f.send(Request.SET_FEATURES, u64((1n << 33n) | (1n << 32n))),
    },
    { name: "an odd ring size", reason: "ringSize", make: (f) => f.send(Request.SET_VRING_NUM, u32(0, 3)) },
    {
      name: "a ring there is not",
      reason: "noSuchRing",
      make: (f) => f.send(Request.SET_VRING_NUM, u32(7, 8)),
    },
    {
      name: "a descriptor too few",
      reason: "malformed",
      make: (f) => f.send(Request.SET_MEM_TABLE, table([0, MEMORY, 0, 0])),
    },
    {
      name: "a descriptor too many",
      reason: "malformed",
      make: (f, memfd) => f.send(Request.GET_FEATURES, undefined, [memfd]),
    },
    {
      name: "nine descriptors",
      reason: "tooManyDescriptors",
      make: (f, memfd) => f.send(Request.GET_FEATURES, undefined, new Array<number>(9).fill(memfd)),
    },
    {
      name: "memory behind the end of its file",
      reason: "regionBehindFile",
      make: (f, memfd) => f.send(Request.SET_MEM_TABLE, table([0, MEMORY + 4096, 0, 0]), [memfd]),
    },
    {
      name: "memory of half pages",
      reason: "regionNotPages",
      make: (f, memfd) => f.send(Request.SET_MEM_TABLE, table([100, MEMORY, 0, 0]), [memfd]),
    },
    {
      name: "memory at the end of all numbers",
      reason: "regionAddress",
      make: (f, memfd) => f.send(Request.SET_MEM_TABLE, table([2n ** 64n - 4096n, MEMORY, 0, 0]), [memfd]),
    },
    {
      name: "regions that overlap",
      reason: "regionOverlap",
      make: (f, memfd) =>
        f.send(Request.SET_MEM_TABLE, table([0, MEMORY, 0, 0], [4096, 4096, MEMORY, 0]), [memfd, memfd]),
    },
    {
      name: "a kick that is no event counter",
      reason: "notAnEventCounter",
      make: (f, memfd) => f.send(Request.SET_VRING_KICK, u64(0), [memfd]),
    },
    {
      name: "a log outside of its file",
      reason: "log",
      make: (f, memfd) => f.send(Request.SET_LOG_BASE, u64(MEMORY + 1, 0), [memfd]),
    },
    {
      name: "a region that was never added",
      reason: "noSuchRegion",
      make: (f) => f.send(Request.REM_MEM_REG, u64(0, 0, MEMORY, 0, 0)),
    },
    {
      name: "a configuration behind its end",
      reason: "configRange",
      make: (f) => f.send(Request.SET_CONFIG, Uint8Array.from([...u32(200, 4, 0), 1, 2, 3, 4])),
    },
    {
      name: "in-flight memory for queues there are not",
      reason: "inflight",
      make: (f) => f.send(Request.GET_INFLIGHT_FD, Uint8Array.from([...u64(0, 0), 9, 0, 128, 0])),
    },
  ];

  it.each(mistakes)("is shown the door for $name, and the next one served", async ({ reason, make }) => {
    const before = readdirSync("/proc/self/fd").length;
    const backend = backendOf();
    const front = new RawFrontEnd();
    const [memfd, event] = [createMemfd("test", MEMORY), new EventFd()];
    const served = backend.serve(front.theirs);
    make(front, memfd, event);
    expect(await served).toBe(reason);
    front.close();
    close(memfd);
    event.close();
    await expectAlive(backend);
    await backend.close();
    expect(backend.stats()).toMatchObject({ [`disconnected.${reason}`]: 1, connections: 2 });
    expect(readdirSync("/proc/self/fd")).toHaveLength(before);
  });

  it("is told so where it asks for an answer, and may go on", async () => {
    const backend = backendOf();
    const front = new RawFrontEnd();
    const served = backend.serve(front.theirs);
    front.send(Request.SET_PROTOCOL_FEATURES, u64(REPLY_ACK));
    front.send(Request.SET_VRING_NUM, u32(0, 3), [], NEED_REPLY);
    front.send(Request.SET_VRING_NUM, u32(0, 64), [], NEED_REPLY);
    const answers: Uint8Array[] = [];
    while (answers.length < 2) {
      await turn();
      answers.push(...front.received());
    }
    expect(answers).toEqual([u64(1), u64(0)]);
    front.close();
    expect(await served).toBe("closed");
    expect(backend.stats()).toMatchObject({ "refused.ringSize": 1 });
  });

  it("has to seal its memory where that is asked", async () => {
    const backend = backendOf(true);
    const memfd = createMemfd("test", MEMORY);
    const attempt = async (): Promise<string> => {
      const front = new RawFrontEnd();
      const served = backend.serve(front.theirs);
      front.send(Request.SET_MEM_TABLE, table([0, MEMORY, 0, 0]), [memfd]);
      front.send(Request.GET_FEATURES);
      let left = 200;
      while (front.received().length === 0 && left-- > 0) await turn();
      front.close();
      return served;
    };
    expect(await attempt()).toBe("regionNotSealed");
    addSeals(memfd, Seal.SHRINK);
    expect(await attempt()).toBe("closed");
    close(memfd);
  });
});

describe.skipIf(!isHere)("a front end that means harm (needs Linux on x86-64)", () => {
  type Fd = "memfd" | "event" | "socket" | "directory" | "full";
  interface Sent {
    readonly request: number;
    readonly payload: Uint8Array;
    readonly fds: readonly Fd[];
  }
  const GOOD = [0n, BigInt(MEMORY), 0x1000_0000n, 0n];
  const page = fc.nat(255).map((number) => BigInt(number) * 4096n);
  const address = fc.oneof(
    { weight: 4, arbitrary: page.map((offset) => 0x1000_0000n + offset) },
    { weight: 2, arbitrary: page },
    { weight: 1, arbitrary: fc.constantFrom(0n, 2n ** 63n, 2n ** 64n - 4096n) },
    { weight: 1, arbitrary: fc.bigInt(0n, 2n ** 64n - 1n) },
  );
  const size = fc.oneof(fc.constantFrom(0n, 4096n, BigInt(MEMORY), 2n ** 40n, 2n ** 64n - 1n), page);
  const region = fc.oneof(
    { weight: 3, arbitrary: fc.constant(GOOD) },
    {
      weight: 1,
      arbitrary: fc.tuple(address, size, address, fc.constantFrom(0n, 4096n, 1n)).map((all) => [...all]),
    },
  );
  const ring = fc.constantFrom(0, 0, 0, 0, 1, 255);
  const number = fc.constantFrom(0, 1, 1, 2, 64, 64, 3, 32_768, 0xffff_ffff);
  const without = (request: number): fc.Arbitrary<Sent> =>
    fc.constant({ request, payload: new Uint8Array(0), fds: [] });
  const ofRing = (request: number): fc.Arbitrary<Sent> =>
    fc.tuple(ring, number).map(([index, value]) => ({ request, payload: u32(index, value), fds: [] }));
  const withEvent = (request: number): fc.Arbitrary<Sent> =>
    fc
      .tuple(ring, fc.constantFrom<Fd | undefined>("event", "event", "full", "memfd", "directory", undefined))
      .map(([index, fd]) => ({
        request,
        payload: u64(fd === undefined ? index | 0x100 : index),
        fds: fd === undefined ? [] : [fd],
      }));
  const wellFormed: fc.Arbitrary<Sent> = fc.oneof(
    ...[Request.GET_FEATURES, Request.SET_OWNER, Request.GET_QUEUE_NUM, Request.GET_STATUS].map(without),
    ...[Request.RESET_DEVICE, Request.RESET_OWNER, Request.GET_MAX_MEM_SLOTS].map(without),
    ...[Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.GET_VRING_BASE].map(ofRing),
    ...[Request.SET_VRING_ENABLE, Request.SET_VRING_ENABLE].map(ofRing),
    ...[Request.SET_VRING_KICK, Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR].map(
      withEvent,
    ),
    fc.constantFrom(0n, 1n << 26n, 1n << 29n, 1n << 30n, 1n << 34n).map((bits) => ({
      request: Request.SET_FEATURES,
      payload: u64(bits | (1n << 32n)),
      fds: [],
    })),
    fc.array(region, { maxLength: 3 }).map((regions) => ({
      request: Request.SET_MEM_TABLE,
      payload: table(...regions),
      fds: regions.map(() => "memfd" as const),
    })),
    fc.constant({ request: Request.SET_MEM_TABLE, payload: table(GOOD), fds: ["memfd" as const] }),
    fc.tuple(fc.constantFrom(Request.ADD_MEM_REG, Request.REM_MEM_REG), region).map(([request, all]) => ({
      request,
      payload: u64(0, ...all),
      fds: ["memfd" as const],
    })),
    fc.tuple(ring, address, address, address).map(([index, ...all]) => ({
      request: Request.SET_VRING_ADDR,
      payload: u64(index, ...all, 0),
      fds: [],
    })),
    fc
      .tuple(size, page)
      .map((all) => ({ request: Request.SET_LOG_BASE, payload: u64(...all), fds: ["memfd" as const] })),
    fc
      .tuple(fc.constantFrom(Request.GET_CONFIG, Request.SET_CONFIG), fc.nat(300), fc.nat(40), fc.nat(1))
      .map(([request, at, length, flags]) => ({
        request,
        payload: Uint8Array.from([...u32(at, length, flags), ...new Uint8Array(length)]),
        fds: [],
      })),
    fc.tuple(fc.nat(2), fc.constantFrom(0, 64, 65_535)).map(([queues, length]) => ({
      request: Request.GET_INFLIGHT_FD,
      payload: Uint8Array.from([...u64(0, 0), queues, 0, length & 0xff, length >> 8]),
      fds: [],
    })),
    fc.tuple(page, fc.nat(2), fc.constantFrom(0, 64, 65_535)).map(([at, queues, length]) => ({
      request: Request.SET_INFLIGHT_FD,
      payload: Uint8Array.from([...u64(0, at), queues, 0, length & 0xff, length >> 8]),
      fds: ["memfd" as const],
    })),
    fc.constantFrom<Fd>("socket", "event", "directory").map((fd) => ({
      request: Request.SET_BACKEND_REQ_FD,
      payload: new Uint8Array(0),
      fds: [fd],
    })),
    fc.nat(255).map((status) => ({ request: Request.SET_STATUS, payload: u64(status), fds: [] })),
  );
  const garbage: fc.Arbitrary<Sent> = fc.record({
    request: fc.nat(50),
    payload: fc.uint8Array({ maxLength: 64 }),
    fds: fc.array(fc.constantFrom<Fd>("memfd", "event", "socket"), { maxLength: 9 }),
  });
  interface Attack {
    readonly sent: Sent;
    readonly flags: number;
    /** Bytes of the header that are sent, where that is all. */
    readonly cut: number | undefined;
  }
  const message: fc.Arbitrary<Attack> = fc.record({
    sent: fc.oneof({ weight: 30, arbitrary: wellFormed }, { weight: 1, arbitrary: garbage }),
    // Most wrong things are answered rather than punished: a run goes on.
    flags: fc.constantFrom(NEED_REPLY, NEED_REPLY, NEED_REPLY, NEED_REPLY, NEED_REPLY, 0),
    cut: fc.oneof({ weight: 60, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(20) }),
  });
  /** A run that starts with rings at work, so that what follows finds some. */
  const working: readonly Sent[] = [
    { request: Request.SET_FEATURES, payload: u64((1n << 32n) | (1n << 30n)), fds: [] },
    { request: Request.SET_MEM_TABLE, payload: table(GOOD), fds: ["memfd"] },
    { request: Request.SET_VRING_NUM, payload: u32(0, 64), fds: [] },
    {
      request: Request.SET_VRING_ADDR,
      payload: u64(0, 0x1000_0000n, 0x1000_2000n, 0x1000_1000n, 0),
      fds: [],
    },
    { request: Request.SET_VRING_CALL, payload: u64(0), fds: ["event"] },
    { request: Request.SET_VRING_KICK, payload: u64(0), fds: ["event"] },
    { request: Request.SET_VRING_ENABLE, payload: u32(0, 1), fds: [] },
  ];

  it("neither ends the process nor keeps a descriptor, nor the next front end from the device", async () => {
    const backend = backendOf();
    const memfd = createMemfd("hostile", MEMORY);
    const event = new EventFd();
    const full = new EventFd();
    for (let i = 0; i < 3; i++) full.signal();
    const [socket, other] = socketPair();
    const directory = openSync("/", "r");
    const known: Record<Fd, number> = { memfd, event: event.fd, socket, directory, full: full.fd };
    const before = readdirSync("/proc/self/fd").length;
    const attack = async (works: boolean, messages: readonly Attack[]): Promise<void> => {
      const front = new RawFrontEnd();
      const served = backend.serve(front.theirs);
      // A read of one sector, offered in a ring that nothing was used of.
      writeSync(memfd, u32(0x3000, 0, 16, 0x0001_0001, 0x4000, 0, 513, 2), 0, 32, 0);
      writeSync(memfd, u32(0x0001_0000, 0), 0, 8, 0x1000);
      writeSync(memfd, u32(0), 0, 4, 0x2000);
      front.send(Request.SET_PROTOCOL_FEATURES, u64(REPLY_ACK));
      const all = [
        ...(works ? working.map((sent) => ({ sent, flags: 0, cut: undefined })) : []),
        ...messages,
      ];
      for (const { sent, flags, cut } of all) {
        const { request, payload } = sent;
        const passed = sent.fds.map((name) => known[name]);
        const header = u32(request, 1 | flags, payload.length);
        const isSent =
          cut === undefined
            ? front.send(request, payload, passed, flags)
            : front.sendBytes(header.subarray(0, cut), passed);
        event.signal();
        if (!isSent) break;
        await turn();
        front.received();
      }
      // What is closed with answers unread takes along what was sent.
      for (let seen = -1; seen !== backend.stats()["messages"]; ) {
        seen = backend.stats()["messages"] ?? 0;
        for (let i = 0; i < 4; i++) await turn();
        front.received();
      }
      front.close();
      expect(typeof (await served)).toBe("string");
      expect(readdirSync("/proc/self/fd")).toHaveLength(before);
    };
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(message, { minLength: 1, maxLength: 30 }), attack),
      { numRuns: 500 },
    );
    await expectAlive(backend);
    await backend.close();
    for (const fd of [memfd, socket, other, directory]) close(fd);
    event.close();
    full.close();
    const { calls = 0, ...counts } = backend.stats();
    expect(calls).toBeGreaterThan(0);
    expect(Object.keys(counts).filter((name) => name.startsWith("refused.")).length).toBeGreaterThan(12);
  });
});
