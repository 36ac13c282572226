import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { user, type UserNetOptions } from "../src/index.ts";
import { VirtualTime } from "./virtual-time.ts";
import {
  arp,
  echo,
  ethernet,
  gatewayMac,
  GuestCard,
  guestMac,
  internetSum,
  ipv4,
  tcp,
  udp,
} from "./guest-card.ts";

/** Millions take minutes: `NORTHBRIDGE_FUZZ_FRAMES=3000000`. */
const FRAMES = Number(process.env["NORTHBRIDGE_FUZZ_FRAMES"] ?? "6000");

/** Frames that get past the first checks: well-formed ones, with a few bytes changed and some sums made right again. */
const seeds: readonly Uint8Array[] = [
  arp(1, guestMac, "10.0.2.15", "10.0.2.2"),
  echo([1, 2, 3, 4]),
  ipv4(1, [8, 0, 0, 0, 0, 1, 0, 1], { fragment: 0x2000 }),
  ipv4(17, new Array<number>(64).fill(7), { fragment: 0x2004 }),
  udp(68, 67, [1, 1, 6, 0, ...new Array<number>(232).fill(0), 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], {
    from: "0.0.0.0",
    to: "255.255.255.255",
  }),
  udp(4000, 53, [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1], { to: "10.0.2.3" }),
  udp(4000, 9, [1, 2, 3]),
  tcp(4000, 80, 1, 0x02),
  tcp(4000, 80, 2, 0x10, { acknowledgment: 1 }),
  tcp(4000, 53, 1, 0x02, { to: "10.0.2.3" }),
  ...[133, 135, 136, 128, 134, 137].map((type) => icmp6(type)),
  ethernet([0x33, 0x33, 0, 1, 0, 2], guestMac, 0x86dd, [
    0x60,
    0,
    0,
    0,
    0,
    12,
    17,
    1,
    ...linkLocal(9),
    0xff,
    2,
    ...new Array<number>(10).fill(0),
    0,
    1,
    0,
    2,
    2,
    34,
    2,
    35,
    0,
    12,
    0,
    0,
    11,
    1,
    2,
    3,
  ]),
];

function linkLocal(host: number): number[] {
  return [0xfe, 0x80, ...new Array<number>(13).fill(0), host];
}

function icmp6(type: number): Uint8Array {
  const body = [type, 0, 0, 0, 0, 0, 0, 0, ...linkLocal(2), 1, 1, ...guestMac];
  const addresses = [...linkLocal(9), ...linkLocal(2)];
  const sum = internetSum([...addresses, 0, 0, 0, body.length, 0, 0, 0, 58, ...body]);
  body[2] = sum >>> 8;
  body[3] = sum & 255;
  return ethernet(gatewayMac, guestMac, 0x86dd, [
    0x60,
    0,
    0,
    0,
    0,
    body.length,
    58,
    255,
    ...addresses,
    ...body,
  ]);
}

/** Makes the IPv4 header's checksum right again, as a guest that means harm would. */
function mended(frame: Uint8Array): Uint8Array {
  const length = ((frame[14] ?? 0) & 15) * 4;
  if (frame[12] !== 8 || frame[13] !== 0 || length < 20 || frame.length < 14 + length) return frame;
  frame[24] = 0;
  frame[25] = 0;
  const sum = internetSum([...frame.subarray(14, 14 + length)]);
  frame[24] = sum >>> 8;
  frame[25] = sum & 255;
  return frame;
}

const interesting = fc.constantFrom(0, 1, 2, 4, 5, 6, 8, 15, 16, 17, 44, 58, 60, 63, 127, 128, 192, 254, 255);
const change = fc.tuple(fc.nat(120), fc.oneof(interesting, fc.nat(255)));
const frame = fc
  .record({
    seed: fc.nat(seeds.length - 1),
    changes: fc.array(change, { maxLength: 6 }),
    cut: fc.option(fc.nat(90), { freq: 5 }),
    more: fc.option(fc.uint8Array({ maxLength: 1600 }), { freq: 8 }),
    mend: fc.boolean(),
  })
  .map(({ seed, changes, cut, more, mend }) => {
    const base = [...(seeds[seed] ?? [])];
    const bytes = Uint8Array.from(more === null ? base : [...base, ...more]).slice(0, cut ?? undefined);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return mend ? mended(bytes) : bytes;
  });

describe("user() under hostile frames", () => {
  it("neither throws nor grows, and goes on answering", { timeout: 60_000 + FRAMES }, async () => {
    const scheduler = new VirtualTime();
    // Nothing leaves: the policy refuses every address.
    const options: UserNetOptions = {
      scheduler,
      policy: [{ action: "deny" }],
      dns: { servers: [] },
      mostConnections: 64,
    };
    const net = await user(options);
    const card = new GuestCard(net);
    const batch = 500;
    let seen = 0;
    for (let left = FRAMES; left > 0; left -= batch) {
      fc.assert(
        fc.property(fc.array(frame, { minLength: 50, maxLength: 50 }), (frames) => {
          for (const one of frames) net.send([one.subarray(0, 20), one.subarray(20)]);
          scheduler.run(scheduler.nowMs() + 10);
          seen += frames.length;
        }),
        { numRuns: batch / 50, seed: FRAMES - left },
      );
      card.received.length = 0;
    }
    expect(seen).toBe(Math.ceil(FRAMES / batch) * batch);
    expect(net.stats.framesRefused).toBeGreaterThan(seen / 20);
    expect(net.stats.tcpConnections).toBeLessThanOrEqual(64);
    expect(net.stats.fragmentBytes).toBeLessThan(4 << 20);
    // The same card, whoever it claimed to be meanwhile, still gets an answer.
    net.send([arp(1, [0x52, 0x54, 0, 9, 9, 9], "0.0.0.0", "10.0.2.2")]);
    scheduler.run(scheduler.nowMs() + 10);
    expect(card.received.at(-1)?.[21]).toBe(2);
    await net.close();
  });
});
