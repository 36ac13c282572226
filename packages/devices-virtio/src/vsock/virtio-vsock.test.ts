import type { HostStream, HostStreamListener, VsockBackend } from "@northbridge/sdk";
import { VirtioBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtioVsock } from "./virtio-vsock.ts";

const CID = 3;
const [REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST] = [1, 2, 3, 4, 5, 6, 7];

const bytes = (text: string): number[] => Array.from(text, (char) => char.charCodeAt(0));

/** A socket of the host's, as a test holds its other end. */
class FakeStream implements HostStream {
  readonly port: number;
  listener: HostStreamListener | undefined;
  readonly got: number[] = [];
  isEnded = false;
  isClosed = false;
  acceptedAs: number | undefined;
  #waiting: number[] = [];
  #hasFinished = false;

  constructor(port: number, listener?: HostStreamListener) {
    this.port = port;
    this.listener = listener;
  }

  accepted(port: number): void {
    this.acceptedAs = port;
  }

  write(view: Uint8Array): void {
    for (const byte of view) this.got.push(byte);
  }

  end(): void {
    this.isEnded = true;
  }

  close(): void {
    this.isClosed = true;
  }

  resume(): void {
    if (this.#waiting.length > 0) {
      this.#waiting = this.#waiting.slice(this.listener?.receive(Uint8Array.from(this.#waiting)));
    }
    if (this.#waiting.length > 0 || !this.#hasFinished) return;
    this.#hasFinished = false;
    this.listener?.ended();
  }

  /** The host sends. */
  send(data: readonly number[]): void {
    this.#waiting.push(...data);
    this.resume();
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  finish(): void {
    this.#hasFinished = true;
    this.resume();
  }
}

class FakeVsock implements VsockBackend {
  readonly streams: FakeStream[] = [];
  #accept: (port: number, stream: HostStream) => HostStreamListener | undefined = () => undefined;

  connect(port: number, listener: HostStreamListener): HostStream {
    const stream = new FakeStream(port, listener);
    this.streams.push(stream);
    return stream;
  }

  onConnect(accept: (port: number, stream: HostStream) => HostStreamListener | undefined): void {
    this.#accept = accept;
  }

  /** A client asks for a port of the guest. */
  dial(port: number): FakeStream {
    const stream = new FakeStream(port);
    stream.listener = this.#accept(port, stream);
    return stream;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

interface Packet {
  readonly op: number;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly flags?: number;
  readonly bufAlloc?: number;
  readonly fwdCnt?: number;
  readonly data?: readonly number[];
}

/** A guest's driver. */
class Guest {
  readonly backend = new FakeVsock();
  readonly device = new VirtioVsock({ backend: this.backend, cid: CID });
  readonly bench: VirtioBench;
  readonly driver: VirtioBench;
  readonly buffers: Map<number, number>;

  constructor(before?: Guest) {
    this.bench = new VirtioBench(this.device, before === undefined ? {} : { memory: before.bench.memory });
    this.driver = before?.driver ?? this.bench;
    this.buffers = before?.buffers ?? new Map<number, number>();
    if (before === undefined) this.bench.start();
    else {
      this.bench.endpoint.restore(
        JSON.parse(JSON.stringify(before.bench.endpoint.save())) as ReturnType<
          typeof this.bench.endpoint.save
        >,
      );
      this.bench.endpoint.resume();
    }
  }

  offer(count: number, length = 4096): this {
    for (let i = 0; i < count; i++) {
      const gpa = this.driver.alloc(length);
      this.buffers.set(this.driver.queue(0).add([], [{ gpa, length }]) ?? -1, gpa);
    }
    this.bench.endpoint.notify(0);
    return this;
  }

  say({ op, guestPort, hostPort, flags = 0, bufAlloc = 4096, fwdCnt = 0, data = [] }: Packet): void {
    const packet = new Uint8Array(44 + data.length);
    const view = new DataView(packet.buffer);
    view.setUint32(0, CID, true);
    view.setUint32(8, 2, true);
    [guestPort, hostPort, data.length, 1 | (op << 16), flags, bufAlloc, fwdCnt].forEach((value, i) => {
      view.setUint32(16 + 4 * i, value, true);
    });
    packet.set(data, 44);
    this.driver.queue(1).add([{ gpa: this.driver.allocBytes(packet), length: packet.length }], []);
    this.bench.endpoint.notify(1);
    this.driver.queue(1).collect();
  }

  /** What the device has sent. */
  heard(): Packet[] {
    return this.driver
      .queue(0)
      .collect()
      .map(({ id, written }) => {
        const packet = this.bench.bytes(this.buffers.get(id) ?? 0, written);
        const view = new DataView(packet.buffer, packet.byteOffset);
        const u32 = (at: number): number => view.getUint32(at, true);
        expect([u32(0), u32(4), u32(8), u32(12), u32(28) & 0xffff]).toEqual([2, 0, CID, 0, 1]);
        expect(u32(24)).toBe(written - 44);
        return {
          op: u32(28) >>> 16,
          guestPort: u32(20),
          hostPort: u32(16),
          flags: u32(32),
          bufAlloc: u32(36),
          fwdCnt: u32(40),
          data: [...packet.subarray(44)],
        };
      });
  }

  /** Operations of what the device has sent. */
  ops(): number[] {
    return this.heard().map(({ op }) => op);
  }
}

const ports = { guestPort: 1000, hostPort: 52 };

/** A guest with a stream to port 52 of the host. */
function connected(before = new Guest().offer(50)) {
  before.say({ op: REQUEST, ...ports });
  const stream = before.backend.streams[0]!;
  stream.listener?.connected();
  expect(before.ops()).toEqual([RESPONSE]);
  return { guest: before, stream };
}

describe("VirtioVsock", () => {
  it("shows the guest's CID (§5.10.4), and refuses one that is none", () => {
    const { endpoint } = new Guest().bench;
    expect([endpoint.readConfig(0, 4), endpoint.readConfig(4, 4)]).toEqual([CID, 0]);
    for (const cid of [0, 1, 2, 0xffff_ffff, 3.5]) {
      expect(() => new VirtioVsock({ backend: new FakeVsock(), cid })).toThrow(/cid: expected 3 to/);
    }
  });

  it("joins a guest to a socket of the host, both ways", () => {
    const { guest, stream } = connected();
    expect(stream.port).toBe(52);
    guest.say({ op: RW, ...ports, data: bytes("hello") });
    expect(stream.got).toEqual(bytes("hello"));
    stream.send(bytes("world"));
    expect(guest.heard()).toMatchObject([{ op: RW, ...ports, data: bytes("world"), bufAlloc: 262_144 }]);
  });

  it("refuses a guest where there is no socket (§5.10.6.4)", () => {
    const guest = new Guest().offer(5);
    guest.say({ op: REQUEST, ...ports });
    guest.backend.streams[0]!.listener!.closed();
    expect(guest.heard()).toMatchObject([{ op: RST, ...ports }]);
    expect(guest.bench.endpoint.stats()["connections"]).toBe(0);
  });

  it("joins a client of the host to a port of the guest", () => {
    const guest = new Guest().offer(5);
    const stream = guest.backend.dial(80);
    const [request] = guest.heard();
    expect(request).toMatchObject({ op: REQUEST, guestPort: 80 });
    stream.send(bytes("early"));
    expect([guest.ops(), stream.waiting]).toEqual([[], 5]);
    guest.say({ ...request!, op: RESPONSE });
    expect(stream.acceptedAs).toBe(request!.hostPort);
    expect(guest.heard()).toMatchObject([{ op: RW, data: bytes("early") }]);
    const other = guest.backend.dial(81);
    const [refused] = guest.heard();
    expect(refused?.hostPort).not.toBe(request?.hostPort);
    guest.say({ ...refused!, op: RST });
    expect(other.isClosed).toBe(true);
  });

  it("sends no more than the guest has room for, and asks once (§5.10.6.3)", () => {
    const { guest, stream } = connected();
    stream.send(new Array<number>(6000).fill(7));
    const packets = guest.heard();
    expect(packets.map(({ op }) => op)).toEqual([RW, RW, CREDIT_REQUEST]);
    expect(packets.flatMap(({ data }) => data ?? [])).toHaveLength(4096);
    guest.say({ op: CREDIT_UPDATE, ...ports });
    expect(guest.ops()).toEqual([]);
    guest.say({ op: CREDIT_UPDATE, ...ports, fwdCnt: 4096 });
    expect(guest.heard().flatMap(({ data }) => data ?? [])).toHaveLength(1904);
    expect(stream.waiting).toBe(0);
  });

  it("tells the guest of room when the host has read half of it, and resets one that sends more than there is", () => {
    const { guest, stream } = connected();
    const half = new Array<number>(131_072).fill(1);
    guest.say({ op: RW, ...ports, data: half });
    expect(guest.ops()).toEqual([]);
    stream.listener!.written(131_072);
    expect(guest.heard()).toMatchObject([{ op: CREDIT_UPDATE, fwdCnt: 131_072 }]);
    guest.say({ op: RW, ...ports, data: half });
    guest.say({ op: RW, ...ports, data: half });
    expect(guest.ops()).toEqual([]);
    guest.say({ op: RW, ...ports, data: [1] });
    expect([guest.ops(), stream.isClosed]).toEqual([[RST], true]);
  });

  it("answers a guest that asks for credit", () => {
    const { guest } = connected();
    guest.say({ op: CREDIT_REQUEST, ...ports });
    expect(guest.ops()).toEqual([CREDIT_UPDATE]);
  });

  it("ends each half apart (§5.10.6.5)", () => {
    const { guest, stream } = connected();
    guest.say({ op: SHUTDOWN, ...ports, flags: 2 });
    expect([stream.isEnded, stream.isClosed]).toEqual([true, false]);
    stream.send(bytes("still"));
    stream.finish();
    expect(guest.heard()).toMatchObject([
      { op: RW, data: bytes("still") },
      { op: SHUTDOWN, flags: 3 },
    ]);
    guest.say({ op: RST, ...ports });
    expect([stream.isClosed, guest.bench.endpoint.stats()["connections"]]).toEqual([true, 0]);
  });

  it("says that the host sends no more only behind all that it has sent", () => {
    const { guest, stream } = connected(new Guest().offer(1));
    stream.send(bytes("last"));
    stream.finish();
    expect(guest.ops()).toEqual([]);
    guest.offer(1);
    expect(guest.ops()).toEqual([RW]);
    guest.offer(1);
    expect(guest.heard()).toMatchObject([{ op: SHUTDOWN, flags: 2 }]);
  });

  it("confirms the end of both halves, and lets what was written reach the host", () => {
    const { guest, stream } = connected();
    guest.say({ op: RW, ...ports, data: bytes("bye") });
    guest.say({ op: SHUTDOWN, ...ports, flags: 3 });
    expect([guest.ops(), stream.isClosed, stream.got]).toEqual([[RST], true, bytes("bye")]);
  });

  it("tells the guest of a broken socket", () => {
    const { guest, stream } = connected();
    stream.listener!.closed();
    expect(guest.ops()).toEqual([RST]);
  });

  it.each([
    ["data of no stream", { op: RW, guestPort: 9, hostPort: 9, data: [1] }],
    ["a response nobody waits for", { op: RESPONSE, guestPort: 9, hostPort: 9 }],
    ["an operation that is none", { op: 99, ...ports }],
    ["a second request of one stream", { op: REQUEST, ...ports }],
  ])("resets %s", (_what, packet) => {
    const { guest } = connected();
    guest.say(packet);
    expect(guest.ops()).toEqual([RST]);
  });

  it("answers no reset with a reset", () => {
    const guest = new Guest().offer(5);
    guest.say({ op: RST, guestPort: 9, hostPort: 9 });
    expect(guest.ops()).toEqual([]);
  });

  it("keeps no more than so many answers, and no more than so many streams", () => {
    const guest = new Guest();
    for (let i = 0; i < 100; i++) {
      for (let k = 0; k < 20; k++)
        guest.driver.queue(1).add([{ gpa: guest.driver.alloc(44), length: 44 }], []);
      guest.say({ op: RW, guestPort: i, hostPort: 9 });
    }
    guest.offer(100);
    expect(guest.ops().every((op) => op === RST)).toBe(true);
    const many = new Guest();
    for (let port = 0; port < 1100; port++) many.say({ op: REQUEST, guestPort: port, hostPort: 1 });
    expect([many.backend.streams.length, many.bench.endpoint.stats()["connections"]]).toEqual([1024, 1024]);
  });

  it("tells a driver that was restored that its streams are gone (§5.10.6.7)", () => {
    const { guest, stream } = connected();
    const gpa = guest.driver.alloc(4);
    guest.driver.memory.writeU32(gpa, 0xffff_ffff);
    guest.driver.queue(2).add([], [{ gpa, length: 4 }]);
    const restored = new Guest(guest);
    expect(guest.driver.queue(2).collect()).toMatchObject([{ written: 4 }]);
    expect(guest.driver.memory.readU32(gpa)).toBe(0);
    restored.say({ op: RW, ...ports, data: [1] });
    expect(restored.ops()).toEqual([RST]);
    expect(stream.isClosed).toBe(false); // the saved machine goes on
  });

  it("is after a restore, whatever had been said, what it is at first, but for one transport reset", () => {
    const ends = fc.record({ op: fc.nat(8), guestPort: fc.nat(3), hostPort: fc.nat(3), length: fc.nat(40) });
    fc.assert(
      fc.property(
        fc.array(ends, { maxLength: 20 }),
        fc.array(ends, { maxLength: 10 }),
        fc.nat(60),
        (before, after, buffers) => {
          const guest = new Guest().offer(buffers);
          for (const { length, ...packet } of before) {
            guest.say({ ...packet, data: new Array<number>(length).fill(1) });
            for (const stream of guest.backend.streams) {
              stream.listener?.connected();
              stream.send([length]);
            }
          }
          guest.heard();
          const restored = new Guest(guest);
          restored.backend.dial(1); // nothing of a stream before the driver knows that the old ones are gone
          expect([restored.backend.streams.length, restored.heard()]).toEqual([0, []]);
          const events = [0, 1].map(() => ({
            gpa: guest.driver.allocBytes(Uint8Array.of(9, 9, 9, 9)),
            length: 4,
          }));
          for (const event of events) guest.driver.queue(2).add([], [event]);
          restored.bench.endpoint.notify(2);
          expect(guest.driver.queue(2).collect()).toMatchObject([{ written: 4 }]);
          expect(events.map(({ gpa }) => guest.driver.memory.readU32(gpa))).toEqual([0, 0x0909_0909]);

          const fresh = new Guest();
          for (const each of [restored, fresh]) {
            each.offer(40);
            for (const { length, ...packet } of after) {
              each.say({ ...packet, data: new Array<number>(length).fill(1) });
              for (const stream of each.backend.streams) stream.listener?.connected();
            }
          }
          expect(restored.heard()).toEqual(fresh.heard());
        },
      ),
      { numRuns: 100 },
    );
  });

  it("carries any mix of writes whole and in order, whatever buffers and credit the guest has", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("send" as const), length: fc.integer({ min: 1, max: 3000 }) }),
      fc.record({
        do: fc.constant("offer" as const),
        count: fc.nat(3),
        length: fc.integer({ min: 45, max: 2000 }),
      }),
      fc.record({ do: fc.constant("read" as const) }),
      fc.record({ do: fc.constant("write" as const), length: fc.integer({ min: 1, max: 500 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { guest, stream } = connected(new Guest().offer(1));
        let [next, forwarded, wrote] = [0, 0, 0];
        const got: number[] = [];
        const data = (length: number): number[] => Array.from({ length }, () => next++ & 0xff);
        const read = (): void => {
          for (const { op, data: more = [] } of guest.heard()) if (op === RW) got.push(...more);
          forwarded = got.length;
          guest.say({ op: CREDIT_UPDATE, ...ports, fwdCnt: forwarded });
        };
        for (const each of steps) {
          if (each.do === "send") stream.send(data(each.length));
          else if (each.do === "offer") guest.offer(each.count, each.length);
          else if (each.do === "read") read();
          else {
            guest.say({ op: RW, ...ports, fwdCnt: forwarded, data: new Array<number>(each.length).fill(1) });
            stream.listener!.written(each.length);
            wrote += each.length;
          }
        }
        for (let i = 0; i < 200 && stream.waiting > 0; i++) {
          guest.offer(4);
          read();
        }
        read();
        expect(got).toEqual(Array.from({ length: next }, (_, i) => i & 0xff));
        expect(stream.got).toHaveLength(wrote);
      }),
      { numRuns: 60 },
    );
  });
});
