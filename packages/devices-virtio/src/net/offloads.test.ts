import type { NetOffloads } from "@northbridge/sdk";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAC, NetDriver, virtioNetHeader } from "../../test/net-driver.ts";

const ALL: NetOffloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: true };
const [TCPV4, TCPV6, UDP_L4, ECN] = [1, 4, 5, 0x80];
const NEEDS_CSUM = 1;
const [FIN, PSH, ACK, CWR] = [0x01, 0x08, 0x10, 0x80];

/** Ones' complement sum, the long way (RFC 1071 §1). */
function onesSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];

interface Packet {
  readonly v6: boolean;
  readonly tcp: boolean;
  readonly tagged: boolean;
  readonly options: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

const addresses = (v6: boolean): number[] =>
  v6 ? Array.from({ length: 32 }, (_, i) => 7 * i + 1) : [10, 0, 0, 1, 192, 168, 3, 200];

/** A frame as a stack leaves it: the transport's checksum is the pseudo-header's sum. */
function frameOf(p: Packet): { readonly frame: Uint8Array; readonly l4: number } {
  const l3 = p.tagged ? 18 : 14;
  const ipLength = p.v6 ? 40 : 20;
  const transportLength = p.tcp ? 20 + 4 * p.options : 8;
  const length = transportLength + p.payload.length;
  const protocol = p.tcp ? 6 : 17;
  const pseudo = onesSum([...addresses(p.v6), 0, protocol, ...u32(length)]);
  const ip = p.v6
    ? [0x60, 0, 0, 0, ...u16(length & 0xffff), protocol, 64, ...addresses(true)]
    : [0x45, 0, ...u16((20 + length) & 0xffff), 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, ...addresses(false)];
  const transport = p.tcp
    ? [
        ...[...u16(1000), ...u16(80), ...u32(p.sequence), ...u32(77)],
        ...[(5 + p.options) << 4, p.flags, 0x20, 0, ...u16(pseudo), 0, 0],
        ...new Array<number>(4 * p.options).fill(1),
      ]
    : [...u16(1000), ...u16(53), ...u16(length & 0xffff), ...u16(pseudo)];
  const type = p.v6 ? [0x86, 0xdd] : [8, 0];
  const frame = Uint8Array.from([
    ...[...MAC, ...MAC],
    ...(p.tagged ? [0x81, 0, 0, 5] : []),
    ...type,
    ...ip,
    ...transport,
    ...p.payload,
  ]);
  return { frame, l4: l3 + ipLength };
}

/** What a receiver checks of a frame: lengths and checksums. Returns its sequence number, flags, ID and payload. */
function check(frame: Uint8Array, { v6, tcp, tagged, options }: Packet) {
  const l3 = tagged ? 18 : 14;
  const ip = [...frame.subarray(l3)];
  const l4 = v6 ? 40 : 20;
  const length = ip.length - l4;
  if (v6) expect(ip[4]! * 256 + ip[5]!).toBe(length);
  else {
    expect(ip[2]! * 256 + ip[3]!).toBe(ip.length);
    expect(onesSum(ip.slice(0, 20))).toBe(0xffff);
  }
  const segment = ip.slice(l4);
  expect(onesSum([...addresses(v6), 0, tcp ? 6 : 17, ...u32(length), ...segment])).toBe(0xffff);
  if (!tcp) {
    expect(segment[4]! * 256 + segment[5]!).toBe(length);
    expect(segment.slice(6, 8)).not.toEqual([0, 0]); // that would mean that there is no checksum
  }
  return {
    sequence: tcp ? new DataView(Uint8Array.from(segment).buffer).getUint32(4) : 0,
    flags: tcp ? segment[13]! : 0,
    id: v6 ? 0 : ip[4]! * 256 + ip[5]!,
    payload: segment.slice(tcp ? 20 + 4 * options : 8),
  };
}

const packet: fc.Arbitrary<Packet> = fc.record({
  v6: fc.boolean(),
  tcp: fc.boolean(),
  tagged: fc.boolean(),
  options: fc.nat(10),
  flags: fc.constantFrom(ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR),
  sequence: fc.constantFrom(1, 0x7fff_ffff, 0xffff_ff00),
  payload: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 200 }),
    fc.nat(5000).map((n) => pattern(n + 1)),
  ),
});

const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31) & 0xff);

const gsoOf = ({ tcp, v6 }: Packet): number => (tcp ? (v6 ? TCPV6 : TCPV4) : UDP_L4);

describe("VirtioNet on a link without offloads", () => {
  it("completes checksums", () => {
    fc.assert(
      fc.property(packet, (p) => {
        const driver = new NetDriver();
        const { frame, l4 } = frameOf(p);
        driver.send(frame, { flags: NEEDS_CSUM, start: l4, offset: p.tcp ? 16 : 6 });
        // The stack filled in the header of IPv4 for a real frame; ours has none there.
        const sent = Uint8Array.from(driver.wire.sent[0]!);
        if (!p.v6) sent.set(u16(0xffff - onesSum([...sent.subarray(l4 - 20, l4)])), l4 - 10);
        expect([...check(sent, p).payload]).toEqual([...p.payload]);
        expect(driver.wire.headers).toEqual([undefined]);
      }),
      { numRuns: 200 },
    );
  });

  it("cuts large frames into frames a receiver accepts, which together are the large one", () => {
    fc.assert(
      fc.property(packet, fc.integer({ min: 1, max: 1460 }), (p, size) => {
        const driver = new NetDriver();
        const gsoSize = Math.max(size, Math.ceil(p.payload.length / 1000));
        const { frame, l4 } = frameOf(p);
        const isEcn = (p.flags & CWR) !== 0 && p.tcp;
        const gso = gsoOf(p) | (isEcn ? ECN : 0);
        driver.send(frame, { flags: NEEDS_CSUM, gso, gsoSize, start: l4, offset: p.tcp ? 16 : 6 });
        const pieces = driver.wire.sent.map((piece) => check(piece, p));
        expect(pieces).toHaveLength(Math.ceil(p.payload.length / gsoSize));
        expect(pieces.flatMap(({ payload }) => payload)).toEqual([...p.payload]);
        pieces.forEach(({ sequence, flags, id, payload }, index) => {
          const isLast = index === pieces.length - 1;
          if (!isLast) expect(payload).toHaveLength(gsoSize);
          if (!p.v6) expect(id).toBe((0x1234 + index) & 0xffff);
          if (!p.tcp) return;
          expect(sequence).toBe((p.sequence + index * gsoSize) >>> 0);
          expect(flags & (FIN | PSH)).toBe(isLast ? p.flags & (FIN | PSH) : 0);
          expect(flags & CWR).toBe(index === 0 ? p.flags & CWR : 0);
        });
      }),
      { numRuns: 200 },
    );
  });

  it("goes on in the middle of a large frame when the link has room, also after a restore", () => {
    const p: Packet = {
      ...{ v6: false, tcp: true, tagged: false, options: 0, flags: ACK, sequence: 0 },
      payload: pattern(5000),
    };
    const { frame, l4 } = frameOf(p);
    const a = new NetDriver();
    a.wire.room = 2;
    a.send(frame, { flags: NEEDS_CSUM, gso: TCPV4, gsoSize: 1000, start: l4, offset: 16 });
    expect(a.wire.sent).toHaveLength(2);
    const b = new NetDriver({ memory: a.bench.memory });
    b.bench.endpoint.setStatus(0);
    b.bench.endpoint.restore(
      JSON.parse(JSON.stringify(a.bench.endpoint.save())) as ReturnType<typeof a.bench.endpoint.save>,
    );
    b.bench.endpoint.resume();
    const pieces = [...a.wire.sent, ...b.wire.sent].map((piece) => check(piece, p));
    expect(pieces.map(({ sequence }) => sequence)).toEqual([0, 1000, 2000, 3000, 4000]);
    expect(pieces.flatMap(({ payload }) => payload)).toEqual([...p.payload]);
  });

  it("begins a large frame at its beginning, though another was lost in its middle", () => {
    const p: Packet = {
      ...{ v6: false, tcp: true, tagged: false, options: 0, flags: ACK, sequence: 0 },
      payload: pattern(5000),
    };
    const { frame, l4 } = frameOf(p);
    const undone = { flags: NEEDS_CSUM, gso: TCPV4, gsoSize: 1000, start: l4, offset: 16 };
    const { wire, device, ...driver } = ((made) => ({ wire: made.wire, device: made.device, made }))(
      new NetDriver(),
    );
    wire.room = 2;
    driver.made.send(frame, undone);
    device.setLink(false);
    wire.writable(); // it is dropped
    device.setLink(true);
    wire.room = Infinity;
    wire.sent.length = 0;
    driver.made.send(frame, undone);
    expect(wire.sent.map((piece) => check(piece, p).sequence)).toEqual([0, 1000, 2000, 3000, 4000]);
  });

  const good = { flags: NEEDS_CSUM, gso: TCPV4, gsoSize: 100, start: 34, offset: 16 };
  it.each([
    ["a checksum behind the end", { ...good, gso: 0, start: 5000 }],
    ["a large frame without a size", { ...good, gsoSize: 0 }],
    ["a large frame without a checksum", { ...good, flags: 0 }],
    ["a kind of large frame that is none", { ...good, gso: 2 }],
    ["a large UDP frame that is TCP", { ...good, gso: UDP_L4, offset: 6 }],
    ["a large IPv6 frame that is IPv4", { ...good, gso: TCPV6 }],
    ["a transport where there is none", { ...good, start: 38 }],
    ["a checksum that is another field", { ...good, offset: 4 }],
    ["CWR without a large frame", { ...good, gso: ECN }],
  ])("drops %s", (_what, undone) => {
    const driver = new NetDriver();
    const packet = { v6: false, tcp: true, tagged: false, options: 0, flags: ACK, sequence: 0 };
    driver.send(frameOf({ ...packet, payload: pattern(300) }).frame, undone);
    expect(driver.wire.sent).toEqual([]);
    expect(driver.bench.endpoint.stats()).toMatchObject({ dropped: 1 });
    expect(driver.bench.queue(1).collect()).toHaveLength(1);
  });

  it("drops what a driver leaves undone that has not accepted to", () => {
    const driver = new NetDriver({ offloads: false });
    driver.send(pattern(100), { flags: NEEDS_CSUM, start: 34, offset: 16 });
    expect([driver.wire.sent, driver.bench.endpoint.stats()["dropped"]]).toEqual([[], 1]);
  });
});

describe("VirtioNet on a link with offloads", () => {
  const undone = { flags: NEEDS_CSUM, gso: TCPV4, gsoSize: 100, start: 34, offset: 16 };

  it("hands over what is undone as it is", () => {
    const driver = new NetDriver({ link: ALL });
    const frame = pattern(1000);
    driver.send(frame, undone);
    expect(driver.wire.sent).toEqual([frame]);
    expect(driver.wire.headers).toEqual([virtioNetHeader(undone)]);
  });

  it("does itself what the link does not", () => {
    const driver = new NetDriver({ link: { ...ALL, tso4: false } });
    const p = { v6: false, tcp: true, tagged: false, options: 0, flags: ACK, sequence: 0 };
    driver.send(frameOf({ ...p, payload: pattern(300) }).frame, undone);
    expect(driver.wire.sent).toHaveLength(3);
  });

  it("tells the link what the driver takes, as the driver changes it (§5.1.6.5.6)", () => {
    const driver = new NetDriver({ link: { ...ALL, uso: false } });
    expect(driver.wire.taken).toEqual({ ...ALL, uso: false });
    expect(driver.control(2, [5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0])).toBe(0); // GUEST_CSUM, GUEST_TSO4
    expect(driver.wire.taken).toEqual({ checksum: true, tso4: true, tso6: false, ecn: false, uso: false });
    driver.bench.endpoint.setStatus(0);
    expect(driver.wire.taken).toEqual({ checksum: false, tso4: false, tso6: false, ecn: false, uso: false });
  });

  it("gives the driver what is undone, or what is known to be right", () => {
    const driver = new NetDriver({ link: ALL });
    driver.offer(0, 2048, 2048);
    const frame = pattern(1000);
    const valid = virtioNetHeader({ flags: 2 });
    expect([driver.wire.receive(frame, virtioNetHeader(undone)), driver.wire.receive(frame, valid)]).toEqual([
      true,
      true,
    ]);
    const headers = driver.received().map((bytes) => [...bytes.subarray(0, 10)]);
    expect(headers).toEqual([virtioNetHeader(undone), valid].map((header) => [...header.subarray(0, 10)]));
  });

  it("completes a checksum for a driver that does not", () => {
    const driver = new NetDriver({ link: ALL, offloads: false });
    driver.offer(0, 2048);
    const p = {
      v6: true,
      tcp: false,
      tagged: false,
      options: 0,
      flags: 0,
      sequence: 0,
      payload: pattern(99),
    };
    const { frame, l4 } = frameOf(p);
    driver.wire.receive(frame, virtioNetHeader({ flags: NEEDS_CSUM, start: l4, offset: 6 }));
    const [got] = driver.received();
    expect([...got!.subarray(0, 12)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(check(got!.subarray(12), p).payload).toEqual([...pattern(99)]);
  });
});
