import type { NetBackend } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { FakeClock, VirtioBench } from "@northbridge/sdk/testing";
import { VirtioNet } from "@northbridge/devices-virtio";
import { MAC, NetDriver, Wire } from "../../test/net-driver.ts";

describe("VirtioNet", () => {
  const frame = Uint8Array.from({ length: 100 }, (_, i) => i);

  it("sends frames without the header, and waits while the link is full", () => {
    const { wire, bench } = new NetDriver();
    const gpa = bench.allocBytes(Uint8Array.from([...new Uint8Array(12), ...frame]));
    wire.room = 0;
    bench.queue(1).add(
      [
        { gpa, length: 50 },
        { gpa: gpa + 50, length: 62 },
      ],
      [],
    );
    bench.kick(1);
    expect(bench.queue(1).collect()).toEqual([]);
    wire.room = 1;
    wire.writable();
    expect(wire.sent).toEqual([frame]);
    expect(bench.queue(1).collect()).toHaveLength(1);
  });

  it("sends and receives no more than it may, and goes on in time", () => {
    const clock = new FakeClock();
    const rates = { transmit: { operationsPerSecond: 10 }, receive: { bytesPerSecond: 1000 } };
    const { wire, bench } = new NetDriver({ limits: { rates, clock } });
    const gpa = bench.allocBytes(Uint8Array.from([...new Uint8Array(12), ...frame]));
    for (let i = 0; i < 25; i++) bench.queue(1).add([{ gpa, length: 112 }], []);
    bench.kick(1);
    expect(wire.sent.length).toBe(1); // what an idle device has saved up in a tenth of a second
    wire.room = 0;
    clock.advanceTo(1e8);
    expect(wire.sent.length).toBe(1);
    wire.room = Infinity;
    wire.writable(); // what a full link did not take is not paid for
    expect(wire.sent.length).toBe(2);
    clock.advanceTo(1e9);
    expect(wire.sent.length).toBe(11);

    for (let i = 0; i < 20; i++) bench.queue(0).add([], [{ gpa: bench.alloc(2048), length: 2048 }]);
    expect([wire.receive(frame), wire.receive(frame)]).toEqual([true, false]);
    const resumed = wire.resumes;
    clock.advanceTo(1.1e9);
    expect(wire.resumes).toBeGreaterThan(resumed);
    expect([wire.receive(frame), wire.receive(frame)]).toEqual([true, false]);

    // A machine that was saved is no faster.
    const other = new Wire();
    const twin = new VirtioNet({ backend: other, mac: MAC, limits: { rates, clock } });
    const { endpoint } = new VirtioBench(twin, { memory: bench.memory });
    endpoint.restore(bench.endpoint.save());
    endpoint.resume();
    expect(other.receive(frame)).toBe(false);
    clock.advanceTo(1.2e9);
    expect(other.receive(frame)).toBe(true);
  });

  it("receives into one buffer, or merges several, or waits for them", () => {
    const { wire, bench } = new NetDriver();
    expect(wire.receive(frame)).toBe(false);
    const room = [bench.alloc(64), bench.alloc(64)];
    bench.queue(0).add([], [{ gpa: room[0]!, length: 64 }]);
    expect(wire.receive(frame)).toBe(false); // 12 + 100 bytes need two
    bench.queue(0).add([], [{ gpa: room[1]!, length: 64 }]);
    expect(wire.receive(frame)).toBe(true);
    expect(
      bench
        .queue(0)
        .collect()
        .map(({ written }) => written),
    ).toEqual([64, 48]);
    const header = bench.bytes(room[0]!, 12);
    expect([...header]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    expect([...bench.bytes(room[0]! + 12, 52), ...bench.bytes(room[1]!, 48)]).toEqual([...frame]);
  });

  it("drops a frame that the driver's buffer is too small for", () => {
    const { wire, bench } = new NetDriver({ accept: (bit) => bit !== 15 }); // without MRG_RXBUF
    bench.queue(0).add([], [{ gpa: bench.alloc(64), length: 64 }]);
    expect(wire.receive(frame)).toBe(true);
    expect(
      bench
        .queue(0)
        .collect()
        .map(({ written }) => written),
    ).toEqual([0]);
    expect(bench.endpoint.stats()["dropped"]).toBe(1);
  });

  it("shows whether the back end's cable is in (§5.1.4.1, VIRTIO_NET_S_LINK_UP)", () => {
    const { wire, bench } = new NetDriver();
    const status = (): number => bench.endpoint.readConfig(6, 2);
    const before = bench.configInterrupts;
    expect(status()).toBe(1);
    wire.plug(false);
    expect(status()).toBe(0);
    wire.plug(false);
    wire.plug(true);
    expect(status()).toBe(1);
    expect(bench.configInterrupts - before).toBe(2);
  });

  it("shows address, link and MTU", () => {
    const { device, bench } = new NetDriver();
    const config = Array.from({ length: 12 }, (_, i) => bench.endpoint.readConfig(i, 1));
    expect(config).toEqual([...MAC, 1, 0, 1, 0, 0xdc, 0x05]);
    device.setLink(false);
    expect([bench.endpoint.readConfig(6, 2), bench.configInterrupts]).toEqual([0, 1]);
  });

  it("has its cable pulled and plugged in from the monitor", async () => {
    const { device } = new NetDriver();
    expect([await device.monitorCommand(["link", "down"]), device.isLinkUp]).toEqual(["link down", false]);
    expect([await device.monitorCommand(["link", "up"]), device.isLinkUp]).toEqual(["link up", true]);
    await expect(device.monitorCommand(["unplug"])).rejects.toThrow(
      "expected link up, link down or announce, found unplug",
    );
  });

  it("has a link where the cable is in and somebody is at its other end, also in a restored machine", () => {
    for (const isPlugged of [true, false]) {
      for (const wasThere of [true, false]) {
        for (const isThere of [true, false]) {
          const { device, wire, bench } = new NetDriver();
          wire.plug(wasThere);
          device.setLink(isPlugged);
          expect(device.isLinkUp).toBe(isPlugged && wasThere);
          const other = new Wire();
          const twin = new VirtioNet({ backend: other, mac: MAC });
          const restored = new VirtioBench(twin, { memory: bench.memory });
          other.plug(isThere);
          restored.endpoint.restore(bench.endpoint.save());
          expect(twin.isLinkUp).toBe(isPlugged && wasThere); // what the driver knows
          restored.endpoint.resume();
          expect(twin.isLinkUp).toBe(isPlugged && isThere);
          expect(restored.configInterrupts).toBe(isPlugged && wasThere !== isThere ? 1 : 0);
          twin.setLink(true);
          expect(twin.isLinkUp).toBe(isThere);
        }
      }
    }
  });

  it("refuses a machine whose driver sends larger frames than its link takes", () => {
    const { bench } = new NetDriver();
    const small: NetBackend = Object.assign(new Wire(), { mtu: 1400 });
    const twin = new VirtioBench(new VirtioNet({ backend: small, mac: MAC }), { memory: bench.memory });
    expect(() => {
      twin.endpoint.restore(bench.endpoint.save());
    }).toThrow(/an MTU of 1500, expected at most the link's 1400/);
  });

  it("pays for what is shorter than a header, too", () => {
    const clock = new FakeClock();
    const limits = { rates: { transmit: { bytesPerSecond: 10_000 } }, clock };
    const { wire, bench } = new NetDriver({ limits });
    const nothing = bench.alloc(1);
    const gpa = bench.allocBytes(Uint8Array.from([...new Uint8Array(12), ...frame]));
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 10; i++) bench.queue(1).add([{ gpa: nothing, length: 1 }], []);
      bench.queue(1).add([{ gpa, length: 12 + frame.length }], []);
      bench.kick(1);
      bench.queue(1).collect();
    }
    expect(wire.sent.length * frame.length).toBeLessThanOrEqual(1000); // a tenth of a second of it
  });

  it("hands on to its link what it has no answer to at the monitor", async () => {
    const { device, wire } = new NetDriver();
    const link: NetBackend = wire;
    link.monitorCommand = (words) => Promise.resolve(`link: ${words.join(" ")}`);
    expect(await device.monitorCommand(["limit", "toGuest", "off"])).toBe("link: limit toGuest off");
    expect(await device.monitorCommand(["link", "up"])).toBe("link up");
  });

  it("loses what is sent or comes while the cable is pulled", () => {
    const driver = new NetDriver();
    driver.device.setLink(false);
    driver.send(frame);
    driver.offer(0, 2048);
    expect([driver.wire.receive(frame), driver.wire.sent, driver.received()]).toEqual([true, [], []]);
    driver.device.setLink(true);
    driver.send(frame);
    expect([driver.wire.receive(frame), driver.wire.sent.length, driver.received().length]).toEqual([
      true,
      1,
      1,
    ]);
    expect(driver.bench.configInterrupts).toBe(2);
  });

  it("announces itself from the monitor", async () => {
    const { device, bench } = new NetDriver();
    await device.monitorCommand(["announce"]);
    expect(bench.endpoint.readConfig(6, 2)).toBe(3);
  });

  it("shows a speed where one is configured (§5.1.4)", () => {
    const { endpoint } = new NetDriver({ speedMbps: 10_000 }).bench;
    expect([endpoint.readConfig(12, 4), endpoint.readConfig(16, 1)]).toEqual([10_000, 1]);
    expect(endpoint.features.has(63)).toBe(true);
  });

  it.each([
    ["TSO without checksums", 11, 0],
    ["ECN without TSO", 9, 7],
    ["a command without the control queue", 23, 17],
  ])("refuses %s (§5.1.3.1)", (_what, _feature, without) => {
    const { endpoint } = new NetDriver({
      accept: (bit) => bit !== without && (without !== 7 || bit !== 8),
    }).bench;
    expect(endpoint.status & 8).toBe(0); // FEATURES_OK
  });
});

/** An Ethernet frame. */
const to = (address: readonly number[], type: readonly number[] = [0x88, 0xb5]): Uint8Array =>
  Uint8Array.from([...address, ...MAC, ...type, ...new Uint8Array(46)]);

const OTHER = [2, 0, 0, 0, 0, 1];
const GROUP = [1, 0, 0x5e, 0, 0, 1];
const BROADCAST = [255, 255, 255, 255, 255, 255];

describe("VirtioNet's control queue", () => {
  /** Which of these frames come through. */
  const passes = (driver: NetDriver, frames: readonly Uint8Array[]): boolean[] =>
    frames.map((frame) => {
      driver.offer(0, 256);
      expect(driver.wire.receive(frame)).toBe(true);
      return driver.received().length === 1;
    });
  const frames = [to([...MAC]), to(OTHER), to(GROUP), to(BROADCAST)];
  const [PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST] = [0, 1, 2, 3, 4, 5];

  it("filters frames by receive modes (§5.1.6.5.1)", () => {
    const driver = new NetDriver();
    expect(passes(driver, frames)).toEqual([true, true, true, true]);
    const after = (mode: number, isOn: number): boolean[] => {
      expect(driver.control(2, [0, mode, isOn])).toBe(0);
      return passes(driver, frames);
    };
    expect(after(PROMISC, 0)).toEqual([true, false, false, true]);
    expect(after(ALLMULTI, 1)).toEqual([true, false, true, true]);
    expect(after(ALLUNI, 1)).toEqual([true, true, true, true]);
    expect(after(NOMULTI, 1)).toEqual([true, true, false, true]);
    expect(after(NOUNI, 1)).toEqual([false, false, false, true]);
    expect(after(NOBCAST, 1)).toEqual([false, false, false, false]);
    expect(after(PROMISC, 1)).toEqual([true, true, true, true]);
  });

  it("filters frames by the tables of addresses, and passes all of a table that is too long (§5.1.6.5.2)", () => {
    const driver = new NetDriver();
    driver.control(2, [0, PROMISC, 0]);
    const table = (addresses: readonly (readonly number[])[]): number[] => [
      addresses.length & 0xff,
      addresses.length >> 8,
      0,
      0,
      ...addresses.flat(),
    ];
    expect(driver.control(2, [1, 0, ...table([OTHER]), ...table([GROUP])])).toBe(0);
    expect(passes(driver, frames)).toEqual([true, true, true, true]);
    expect(driver.control(2, [1, 0, ...table([]), ...table([])])).toBe(0);
    expect(passes(driver, frames)).toEqual([true, false, false, true]);
    const many = Array.from({ length: 300 }, (_, i) => [2, 0, 0, 0, 1 + (i >> 8), i & 0xff]);
    expect(driver.control(2, [1, 0, ...table(many), ...table([])])).toBe(0);
    expect(passes(driver, frames)).toEqual([true, true, false, true]);
    expect(driver.control(2, [1, 0, 2, 0, 0, 0, ...OTHER])).toBe(1); // one of two, and no second table
  });

  it("lets through only the VLANs of the driver (§5.1.6.5.3)", () => {
    const driver = new NetDriver();
    const tagged = [to([...MAC], [0x81, 0, 0x60, 5]), to([...MAC], [0x81, 0, 0, 6]), to([...MAC])];
    expect(driver.control(2, [2, 0, 5, 0])).toBe(0);
    expect(passes(driver, tagged)).toEqual([true, false, true]);
    expect(driver.control(2, [2, 1, 5, 0])).toBe(0);
    expect(passes(driver, tagged)).toEqual([false, false, true]);
    expect(driver.control(2, [2, 0, 0, 0x10])).toBe(1); // 4096 is no VLAN
  });

  it("changes the address until the next reset", () => {
    const driver = new NetDriver();
    driver.control(2, [0, PROMISC, 0]);
    expect(driver.control(2, [1, 1, ...OTHER])).toBe(0);
    expect(passes(driver, frames)).toEqual([false, true, false, true]);
    driver.bench.endpoint.setStatus(0);
    expect(Array.from({ length: 6 }, (_, i) => driver.bench.endpoint.readConfig(i, 1))).toEqual([...MAC]);
  });

  it("has the driver announce itself (§5.1.6.5.4)", () => {
    const driver = new NetDriver();
    driver.device.announce();
    expect([driver.bench.endpoint.readConfig(6, 2), driver.bench.configInterrupts]).toEqual([3, 1]);
    expect(driver.control(2, [3, 0])).toBe(0);
    expect(driver.bench.endpoint.readConfig(6, 2)).toBe(1);
  });

  it.each([
    [[9, 0, 0]],
    [[0]],
    [[0, 6, 1]],
    [[0, 0]],
    [[1, 7]],
    [[4, 0, 2, 0]],
    [[5, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
  ])("refuses the command %j", (command) => {
    expect(new NetDriver().control(2, command)).toBe(1);
  });

  it("refuses commands that were not negotiated", () => {
    const driver = new NetDriver({ accept: (bit) => ![18, 19, 20, 21, 23].includes(bit) });
    for (const command of [
      [0, 0, 0],
      [0, 2, 1],
      [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [1, 1, ...OTHER],
      [2, 0, 5, 0],
      [3, 0],
    ])
      expect(driver.control(2, command)).toBe(1);
  });
});

describe("VirtioNet with several queue pairs", () => {
  it("remembers over a restore whose turn it is", () => {
    const { bench } = new NetDriver({ pairs: 2 });
    bench.endpoint.resume(); // the turn of the first pair is over
    const state = bench.endpoint.save();
    expect(state.device).toMatchObject({ turn: 1 });
    const twin = new VirtioBench(new VirtioNet({ backend: new Wire(), mac: MAC, pairs: 2 }), {
      memory: bench.memory,
    });
    twin.endpoint.restore(state);
    for (const pair of [0, 1]) bench.queue(2 * pair + 1).add([{ gpa: bench.alloc(8), length: 8 }], []);
    twin.endpoint.resume();
    expect(twin.endpoint.save()).toMatchObject({ device: { turn: 0 } });
  });

  const flow = (from: number, toPort: number): Uint8Array => {
    const frame = to([...MAC], [0x08, 0x00]);
    frame.set([0x45, 0, 0, 46], 14);
    frame[23] = 17;
    frame.set([10, 0, 0, from < toPort ? 1 : 2, 10, 0, 0, from < toPort ? 2 : 1], 26);
    frame.set([from >> 8, from & 0xff, toPort >> 8, toPort & 0xff], 34);
    return frame;
  };

  it("answers a flow on the pair it was sent on (§5.1.6.5.5)", () => {
    const driver = new NetDriver({ pairs: 4 });
    expect(driver.bench.queues).toHaveLength(9);
    expect(driver.control(8, [4, 0, 4, 0])).toBe(0);
    driver.send(flow(1000, 2000), {}, 3);
    for (const pair of [0, 1, 2, 3]) driver.offer(pair, 256);
    driver.wire.receive(flow(2000, 1000));
    expect([0, 1, 2, 3].map((pair) => driver.received(pair).length)).toEqual([0, 0, 0, 1]);
  });

  it("uses one pair until it is told otherwise, and refuses more than there are", () => {
    const driver = new NetDriver({ pairs: 4 });
    driver.send(flow(1000, 2000), {}, 3);
    driver.offer(0, 256);
    driver.wire.receive(flow(2000, 1000));
    expect(driver.received()).toHaveLength(1);
    expect([driver.control(8, [4, 0, 5, 0]), driver.control(8, [4, 0, 0, 0])]).toEqual([1, 1]);
  });

  it("has its control queue third for a driver without MQ (§5.1.2)", () => {
    const driver = new NetDriver({ pairs: 4, accept: (bit) => bit !== 22 });
    expect(driver.control(2, [0, 0, 0])).toBe(0);
  });
});
