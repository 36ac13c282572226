import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtualTime } from "../../test/virtual-time.ts";
import { type ByteRing } from "./byte-ring.ts";
import { ByteStore } from "./byte-store.ts";
import type { TcpEndpointOptions, TcpOutput, TcpUser } from "./contract.ts";
import { TcpEndpoint } from "./endpoint.ts";
import { emptyPayload, type Segment } from "./segment.ts";

const options: TcpEndpointOptions = {
  mss: 100,
  receiveBuffer: 1000,
  sendBuffer: 2000,
  store: new ByteStore(),
  initialSequence: 0,
  timestampOffset: 0xffff_f000,
  keepAliveMs: 600_000,
  keepAliveProbes: 3,
  timeWaitMs: 1000,
  mostRetransmissions: 40,
};

/** What the link does to a segment: delays, one for each copy that arrives. */
type Weather = () => readonly number[];

const calm: Weather = () => [1];

/** One application: sends its text, ends, and keeps what it hears. Reads slowly where `readMs` is more than 0. */
class Side implements TcpUser {
  endpoint: TcpEndpoint | undefined;
  peer: Side | undefined;
  readonly heard: number[] = [];
  readonly sentSegments: Segment[] = [];
  ended = false;
  closed: boolean | undefined;
  mostUnread = 0;
  limit: () => number = () => options.receiveBuffer;
  #unread = 0;
  #left: Uint8Array;

  readonly #time: VirtualTime;
  readonly #weather: Weather;
  readonly #readMs: number;
  readonly output: TcpOutput;

  readonly #hasSack: boolean;
  readonly #hasTimestamps: boolean;

  constructor(
    time: VirtualTime,
    weather: Weather,
    text: Uint8Array,
    readMs = 0,
    hasSack = true,
    hasTimestamps = false,
  ) {
    this.#hasSack = hasSack;
    this.#hasTimestamps = hasTimestamps;
    this.#time = time;
    this.#weather = weather;
    this.#left = text;
    this.#readMs = readMs;
    this.output = this.#makeOutput();
  }

  #makeOutput(): TcpOutput {
    const awake = new Set<{ flush(): void }>();
    return {
      scheduler: this.#time,
      hasRoom: () => true,
      transmit: (out, data, offset, length) => {
        const { sequence, acknowledgment, flags, window, syn, sack } = out;
        const segment: Segment = {
          sourcePort: 1,
          destinationPort: 2,
          sequence,
          acknowledgment,
          flags,
          window,
          payload: length === 0 ? emptyPayload : copyOf(data, offset, length),
          mss: syn?.mss ?? 0,
          windowScale: syn?.windowScale ?? -1,
          sackPermitted: syn !== undefined && this.#hasSack,
          sack: this.#hasSack ? [...sack] : [],
          hasTimestamp: this.#hasTimestamps && out.hasTimestamp,
          timestamp: out.timestamp,
          echo: out.echo,
        };
        this.sentSegments.push(segment);
        for (const delay of this.#weather()) this.#time.after(delay, () => this.peer?.arrive(segment));
      },
      wake: (endpoint) => {
        if (awake.has(endpoint)) return;
        awake.add(endpoint);
        this.#time.soon(() => {
          awake.delete(endpoint);
          endpoint.flush();
        });
      },
    };
  }

  arrive(segment: Segment): void {
    if (this.endpoint === undefined) {
      if (segment.flags === 0x02) {
        this.endpoint = TcpEndpoint.accept(
          this.output,
          this,
          { ...options, initialSequence: 0x7fff_fff0, receiveLimit: () => this.limit() },
          segment,
        );
      }
      return;
    }
    this.endpoint.receive(segment);
  }

  onEstablished(): void {
    this.#pump();
  }

  onAcknowledged(): void {
    this.#pump();
  }

  onData(bytes: Uint8Array): void {
    this.heard.push(...bytes);
    this.#unread += bytes.length;
    this.mostUnread = Math.max(this.mostUnread, this.#unread);
    const { length } = bytes;
    const read = (): void => {
      this.#unread -= length;
      this.endpoint?.consumed(length);
    };
    if (this.#readMs === 0) read();
    else this.#time.after(this.#readMs, read);
  }

  onEnd(): void {
    this.ended = true;
  }

  onClosed(reset: boolean): void {
    this.closed = reset;
  }

  #pump(): void {
    const { endpoint } = this;
    if (endpoint === undefined) return;
    while (this.#left.length > 0 && endpoint.sendRoom > 0) {
      const length = Math.min(this.#left.length, endpoint.sendRoom);
      endpoint.send(this.#left.subarray(0, length));
      this.#left = this.#left.subarray(length);
    }
    if (this.#left.length === 0) endpoint.end();
  }
}

function copyOf(data: ByteRing, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  data.copy(offset, length, bytes, 0);
  return bytes;
}

function pair(
  weather: Weather,
  texts: readonly [Uint8Array, Uint8Array],
  readMs = 0,
  hasSack: readonly [boolean, boolean] = [true, true],
  hasTimestamps = false,
): { time: VirtualTime; a: Side; b: Side } {
  const time = new VirtualTime();
  const a = new Side(time, weather, texts[0], readMs, hasSack[0], hasTimestamps);
  const b = new Side(time, weather, texts[1], readMs, hasSack[1], hasTimestamps);
  a.peer = b;
  b.peer = a;
  // Close to the wrap, so that every run crosses it.
  a.endpoint = TcpEndpoint.connect(a.output, a, { ...options, initialSequence: 0xffff_ff00 });
  return { time, a, b };
}

const textOf = (length: number, salt: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 31 + salt + (index >>> 8)) & 255);

/** Runs that ended wrong once. */
const weatherThatBroke: [number[][], number, number, 0 | 3 | 500, [boolean, boolean], boolean][] = [
  // A retransmission into a shrunken window took new data along, which no timer then stood behind.
  [[[1], [1], [1], [], [1], [1], [1], [1], [8], [1]], 5643, 1492, 500, [false, false], false],
];

describe("a TCP endpoint (RFC 9293)", () => {
  it("carries both directions whole, once and in order through loss, duplication and reordering", () => {
    const fate = fc.oneof(
      { weight: 6, arbitrary: fc.constant<number[]>([1]) },
      { weight: 1, arbitrary: fc.constant<number[]>([]) },
      { weight: 1, arbitrary: fc.constant<number[]>([1, 4]) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 40 }).map((delay) => [delay]) },
    );
    fc.assert(
      fc.property(
        fc
          .array(fate, { minLength: 1, maxLength: 60 })
          .filter((fates) => fates.filter((one) => one.length === 0).length * 4 <= fates.length),
        fc.nat(6000),
        fc.nat(3000),
        fc.constantFrom(0, 0, 3, 500),
        fc.tuple(fc.boolean(), fc.boolean()),
        fc.boolean(),
        (fates, toB, toA, readMs, hasSack, hasTimestamps) => {
          let index = 0;
          // The same fates again and again, shifted by one, so that no segment is lost forever.
          const weather: Weather = () => {
            index += 1;
            return fates[(index + Math.floor(index / fates.length)) % fates.length] ?? [];
          };
          const texts = [textOf(toB, 1), textOf(toA, 7)] as const;
          const { time, a, b } = pair(weather, texts, readMs, hasSack, hasTimestamps);
          time.run(3_000_000, () => a.closed !== undefined && b.closed !== undefined);
          expect(Uint8Array.from(b.heard)).toEqual(texts[0]);
          expect(Uint8Array.from(a.heard)).toEqual(texts[1]);
          expect([a.ended, b.ended]).toEqual([true, true]);
          expect(Math.max(a.mostUnread, b.mostUnread)).toBeLessThanOrEqual(options.receiveBuffer);
        },
      ),
      { numRuns: 300, examples: weatherThatBroke },
    );
  });

  it("opens where both open at once (RFC 9293 §3.5, figure 7), whatever is lost", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 8 }), (fates) => {
        let turn = 0;
        // 0: lost.
        const weather: Weather = () => {
          const fate = fates[turn] ?? 1;
          turn += 1;
          return fate === 0 ? [] : [fate];
        };
        const texts = [textOf(500, 1), textOf(300, 7)] as const;
        const { time, a, b } = pair(weather, texts);
        b.endpoint = TcpEndpoint.connect(b.output, b, { ...options, initialSequence: 5000 });
        time.run(1_000_000, () => a.closed !== undefined && b.closed !== undefined);
        expect([Uint8Array.from(b.heard), Uint8Array.from(a.heard)]).toEqual(texts);
        expect([a.closed, b.closed]).toEqual([false, false]);
      }),
      { numRuns: 100, examples: [[[]]] },
    );
  });

  it("promises no more than it may, and takes what it has promised", () => {
    const { time, a, b } = pair(calm, [textOf(6000, 3), textOf(0, 0)], 20);
    let limit = 1000;
    b.limit = () => limit;
    time.run(10);
    limit = 250;
    let most = 0;
    for (let until = 15; until < 20_000; until += 5) {
      time.run(until);
      // The window from before runs out; it never shrinks.
      if (until > 100) most = Math.max(most, b.sentSegments.at(-1)?.window ?? 0);
    }
    expect(Uint8Array.from(b.heard)).toEqual(textOf(6000, 3));
    expect(most).toBeLessThanOrEqual(250);
    expect(a.closed).not.toBe(true);
  });

  it("closes in order: the first to end waits in TIME-WAIT, nobody sees a reset", () => {
    const { time, a, b } = pair(calm, [textOf(10, 0), textOf(10, 0)]);
    time.run(100);
    expect([a.endpoint?.state, b.closed]).toEqual(["TIME_WAIT", false]);
    time.run(5000);
    expect([a.closed, b.closed]).toEqual([false, false]);
  });

  it("retransmits one segment after three duplicate acknowledgments, without the timer", () => {
    let count = 0;
    const { time, a, b } = pair(() => ((count += 1) === 5 ? [] : [1]), [textOf(900, 3), textOf(0, 0)]);
    time.run(100);
    expect(b.heard).toHaveLength(900);
    const sequences = a.sentSegments.filter((one) => one.payload.length > 0).map((one) => one.sequence);
    expect(sequences.length - new Set(sequences).size).toBe(1);
  });

  it("resends exactly what was lost, and nothing else, where the peer tells it by SACK (RFC 2018)", () => {
    let count = 0;
    // Four of the first ten segments with data, not next to each other.
    const { time, a, b } = pair(
      () => ([4, 6, 8, 9].includes((count += 1)) ? [] : [1]),
      [textOf(1000, 3), textOf(0, 0)],
    );
    time.run(150);
    expect(Uint8Array.from(b.heard)).toEqual(textOf(1000, 3));
    const sequences = a.sentSegments.filter((one) => one.payload.length > 0).map((one) => one.sequence);
    expect(sequences.length - new Set(sequences).size).toBe(4);
  });

  it("probes a closed window and goes on when it opens", () => {
    const { time, a, b } = pair(calm, [textOf(3000, 3), textOf(0, 0)], 30_000);
    time.run(10_000);
    expect(b.heard.length).toBeLessThanOrEqual(options.receiveBuffer);
    const probes = a.sentSegments.filter((one) => one.payload.length === 1);
    expect(probes.length).toBeGreaterThan(2);
    time.run(1_000_000);
    expect(Uint8Array.from(b.heard)).toEqual(textOf(3000, 3));
  });

  it("believes a reset only at the exact next sequence number (RFC 5961 §3.2)", () => {
    const { time, a, b } = pair(calm, [textOf(10, 3), textOf(0, 0)]);
    time.run(2);
    const reset = (sequence: number): Segment => ({
      sourcePort: 1,
      destinationPort: 2,
      sequence,
      acknowledgment: 0,
      flags: 0x04,
      window: 0,
      mss: 0,
      windowScale: -1,
      sackPermitted: false,
      sack: [],
      hasTimestamp: false,
      timestamp: 0,
      echo: 0,
      payload: emptyPayload,
    });
    a.endpoint?.receive(reset((a.endpoint.receiveNext + 1) >>> 0));
    expect(a.closed).toBeUndefined();
    a.endpoint?.receive(reset(a.endpoint.receiveNext));
    expect(a.closed).toBe(true);
    expect(b.closed).toBeUndefined();
  });

  it("echoes timestamps, and takes nothing that has none or one of the past (RFC 7323 §5)", () => {
    const { time, a, b } = pair(() => [20], [textOf(300, 1), textOf(0, 0)], 0, [true, true], true);
    time.run(30); // before the answer to the SYN
    const syn = a.sentSegments[0]!;
    expect(syn.timestamp).toBe(options.timestampOffset); // at 0 of a clock of which the peer learns nothing
    time.run(65); // data and end have come; the last acknowledgment has not
    const answer = b.sentSegments[0]!;
    expect([answer.hasTimestamp, answer.echo]).toEqual([true, syn.timestamp]);
    const data = a.sentSegments.filter((one) => one.payload.length > 0);
    expect(data.map(({ payload }) => payload.length)).toEqual([88, 88, 88, 36]); // 100 without the option's 12
    expect(data[0]).toMatchObject({ hasTimestamp: true, timestamp: (syn.timestamp + 40) >>> 0 });
    expect(Uint8Array.from(b.heard)).toEqual(textOf(300, 1));
    // An old duplicate whose number has come round again, and a segment of another connection.
    const next = { ...data[0]!, sequence: b.endpoint!.receiveNext, payload: textOf(9, 9) };
    const acknowledged = b.sentSegments.length;
    b.arrive({ ...next, timestamp: (syn.timestamp - 1) >>> 0 });
    b.arrive({ ...next, hasTimestamp: false });
    time.run(70);
    expect(b.heard).toHaveLength(300);
    expect(b.sentSegments.length - acknowledged).toBe(1);
  });

  it("gives up on a peer that no longer answers keep-alive probes", () => {
    let cut = false;
    const { time, a } = pair(() => (cut ? [] : [1]), [textOf(0, 0), textOf(5000, 0)], 0);
    time.run(2);
    cut = true;
    time.run(30_000_000, () => a.closed !== undefined);
    expect(a.closed).toBe(true);
  });

  it("never throws at hostile segments and holds no more than its window", () => {
    const hostile = fc.record({
      sourcePort: fc.constant(1),
      destinationPort: fc.constant(2),
      sequence: fc.integer({ min: -1500, max: 1500 }),
      acknowledgment: fc.integer({ min: -50, max: 300 }),
      flags: fc.constantFrom(0x10, 0x10, 0x18, 0x11, 0x02, 0x12, 0x04, 0x00, 0xff),
      window: fc.constantFrom(0, 1, 500, 65_535),
      mss: fc.constant(0),
      windowScale: fc.constant(-1),
      sackPermitted: fc.constant(false),
      sack: fc.array(fc.integer({ min: -100, max: 2000 }), { maxLength: 8 }),
      hasTimestamp: fc.boolean(),
      timestamp: fc.integer({ min: -50, max: 50 }),
      echo: fc.nat(0xffff_ffff),
      payload: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(fc.array(hostile, { maxLength: 60 }), (segments) => {
        const { time, a, b } = pair(calm, [textOf(200, 0), textOf(0, 0)], 100, [true, true], true);
        time.run(3);
        const clock = b.sentSegments.at(-1)?.timestamp ?? 0;
        for (const segment of segments) {
          const endpoint = a.endpoint!;
          endpoint.receive({
            ...segment,
            timestamp: (clock + segment.timestamp) >>> 0,
            sequence: (endpoint.receiveNext + segment.sequence) >>> 0,
            acknowledgment: (0xffff_ff01 + segment.acknowledgment) >>> 0,
            sack: segment.sack.map((edge) => (0xffff_ff01 + edge) >>> 0),
          });
          expect(endpoint.heldBytes).toBeLessThanOrEqual(options.receiveBuffer);
          expect(a.mostUnread).toBeLessThanOrEqual(options.receiveBuffer);
          time.run(time.nowMs() + 1);
        }
      }),
      { numRuns: 300 },
    );
  });
});
