import { VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import type { InputKind } from "./capabilities.ts";
import { VirtioInput } from "./virtio-input.ts";

const [SYN, KEY, REL, ABS, LED, REP] = [0, 1, 2, 3, 0x11, 0x14];

function setup(kind: InputKind) {
  const device = new VirtioInput({ kind, serial: "input0" });
  const bench = new VirtioBench(device).start();
  const buffers = new Map<number | undefined, number>();
  return {
    device,
    bench,
    /** What the driver reads for a selection (virtio 1.3 §5.8.5.1). */
    query: (select: number, subsel = 0): number[] => {
      bench.endpoint.writeConfig(0, 1, select);
      bench.endpoint.writeConfig(1, 1, subsel);
      const size = bench.endpoint.readConfig(2, 1);
      return Array.from({ length: size }, (_, i) => bench.endpoint.readConfig(8 + i, 1));
    },
    offer: (count: number): void => {
      for (let i = 0; i < count; i++) {
        const gpa = bench.alloc(8);
        buffers.set(bench.queue(0).add([], [{ gpa, length: 8 }]), gpa);
      }
      bench.kick(0);
    },
    events: (): number[][] =>
      bench
        .queue(0)
        .collect()
        .map(({ id, written }) => {
          expect(written).toBe(8);
          const view = new DataView(bench.bytes(buffers.get(id) ?? 0, 8).buffer);
          return [view.getUint16(0, true), view.getUint16(2, true), view.getInt32(4, true)];
        }),
  };
}

const bits = (bytes: readonly number[]): number[] =>
  bytes.flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => 8 * i + bit),
  );

describe("VirtioInput", () => {
  it("says what it is (§5.8.5)", () => {
    const { query } = setup("keyboard");
    expect(String.fromCharCode(...query(1))).toBe("Northbridge virtio keyboard");
    expect(String.fromCharCode(...query(2))).toBe("input0");
    expect(query(3)).toEqual([6, 0, 0xf4, 0x1a, 1, 0, 1, 0]);
    expect([query(0), query(0x10), query(0x99), query(1, 1)]).toEqual([[], [], [], []]);
  });

  it.each([
    ["keyboard", { [KEY]: [1, 28, 30, 105, 127], [LED]: [0, 1, 2], [REP]: [0, 1], [REL]: [], [ABS]: [] }],
    ["mouse", { [KEY]: [0x110, 0x111, 0x112], [REL]: [0, 1, 8], [ABS]: [] }],
    ["tablet", { [KEY]: [0x110, 0x111, 0x112], [REL]: [8], [ABS]: [0, 1] }],
  ] as const)("has the events of a %s", (kind, wanted) => {
    const { query } = setup(kind);
    for (const [type, codes] of Object.entries<readonly number[]>(wanted)) {
      const found = bits(query(0x11, Number(type)));
      if (codes.length === 0) expect(found).toEqual([]);
      else expect(found).toEqual(expect.arrayContaining([...codes]));
    }
    expect(query(0x12, 0)).toEqual(
      kind === "tablet" ? [0, 0, 0, 0, 0xff, 0x7f, 0, 0, ...new Array<number>(12).fill(0)] : [],
    );
  });

  it("keeps events until there are buffers, and ends each report (§5.8.6.1)", () => {
    const { device, offer, events } = setup("mouse");
    device.report([
      [REL, 0, -5],
      [REL, 1, 7],
      [ABS, 0, 9], // a mouse has no such axis
    ]);
    offer(2);
    expect(events()).toEqual([
      [REL, 0, -5],
      [REL, 1, 7],
    ]);
    offer(2);
    expect(events()).toEqual([[SYN, 0, 0]]);
  });

  it("loses whole reports where too many wait, or nobody listens", () => {
    const { device, bench, offer, events } = setup("mouse");
    for (let i = 0; i < 2000; i++) device.report([[REL, 0, 1]]);
    for (let i = 0; i < 40; i++) {
      offer(60);
      const got = events();
      expect(got.length === 0 || got.length % 2 === 0).toBe(true);
    }
    expect(bench.endpoint.stats()).toMatchObject({ events: 1024, lost: 2000 - 512 });
    bench.endpoint.setStatus(0);
    expect(device.report([[REL, 0, 1]])).toBe(false);
  });

  it("hears of lights", async () => {
    const { device, bench } = setup("keyboard");
    const send = (code: number, value: number): void => {
      const gpa = bench.allocBytes(Uint8Array.of(LED, 0, code, 0, value, 0, 0, 0));
      bench.queue(1).add([{ gpa, length: 8 }], []);
      bench.kick(1);
    };
    send(1, 1);
    send(0, 1);
    send(0, 0);
    send(9, 1);
    expect([device.leds, await device.monitorCommand(["leds"])]).toEqual([["capsLock"], "capsLock"]);
  });

  it("types, taps and moves as a person asks at the monitor", async () => {
    const keyboard = setup("keyboard");
    keyboard.offer(60);
    expect(await keyboard.device.monitorCommand(["tap", "ctrl-alt-delete"])).toBe("done");
    expect(keyboard.events().map(([type, code, value]) => (type === KEY ? [code, value] : type))).toEqual([
      ...[[29, 1], [56, 1], [111, 1], SYN],
      ...[[111, 0], [56, 0], [29, 0], SYN],
    ]);
    await keyboard.device.monitorCommand(["type", "a?"]);
    expect(keyboard.events().map(([type, code, value]) => (type === KEY ? [code, value] : type))).toEqual([
      ...[[30, 1], SYN, [30, 0], SYN],
      ...[[42, 1], [53, 1], SYN, [53, 0], [42, 0], SYN],
    ]);
    const tablet = setup("tablet");
    tablet.offer(60);
    await tablet.device.monitorCommand(["at", "100", "32767"]);
    await tablet.device.monitorCommand(["press", "left"]);
    await tablet.device.monitorCommand(["wheel", "-1"]);
    expect(tablet.events()).toEqual([
      [ABS, 0, 100],
      [ABS, 1, 32_767],
      [SYN, 0, 0],
      [KEY, 0x110, 1],
      [SYN, 0, 0],
      [REL, 8, -1],
      [SYN, 0, 0],
    ]);
  });

  it.each([
    ["keyboard", ["tap", "anykey"], /key or a button of a keyboard, found "anykey"/],
    ["keyboard", ["type", "ü"], /US keyboard, found "ü"/],
    ["keyboard", ["move", "1", "2"], /of a mouse, found a keyboard/],
    ["mouse", ["move", "1"], /whole number, found nothing/],
    ["tablet", ["at", "1", "40000"], /0 to 32767/],
    ["tablet", ["dance"], /found dance/],
  ] as const)("refuses to %s %j", async (kind, words, message) => {
    const { device } = setup(kind);
    await expect((async () => device.monitorCommand(words))()).rejects.toThrow(message);
  });
});
