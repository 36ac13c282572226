import { FakeClock, VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { VirtioBalloon } from "./virtio-balloon.ts";

function setup() {
  const reclaimed: Uint8Array[] = [];
  const reclaim = (pages: Uint8Array): void => {
    reclaimed.push(pages);
    pages.fill(0);
  };
  const clock = new FakeClock();
  const device = new VirtioBalloon({ targetMib: 2, reclaim, clock });
  const bench = new VirtioBench(device).start();
  const tell = (queue: number, bytes: Uint8Array): void => {
    bench.queue(queue).add([{ gpa: bench.allocBytes(bytes), length: bytes.length }], []);
    bench.kick(queue);
  };
  return { device, bench, tell, reclaimed, clock };
}

/** Tag and value, as the driver packs them (virtio 1.3 §5.5.6.3). */
function stat(tag: number, value: number): number[] {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, tag, true);
  view.setUint32(2, value, true);
  view.setUint32(6, Math.floor(value / 2 ** 32), true);
  return [...bytes];
}

describe("VirtioBalloon", () => {
  it("hears how much there is in it from drivers that write byte by byte (§4.1.4.10)", () => {
    const device = new VirtioBalloon();
    const bench = new VirtioBench(device).start();
    [0x00, 0x02, 0x01, 0x00].forEach((byte, i) => {
      bench.endpoint.writeConfig(4 + i, 1, byte);
    });
    expect(device.actualMib).toBe(0x10200 / 256);
    bench.endpoint.writeConfig(0, 4, 77); // the host's
    expect(device.targetMib).toBe(0);
  });

  it("gives back no more than there is, however often a report names it", () => {
    let bytes = 0;
    const device = new VirtioBalloon({
      reclaim: (pages) => {
        bytes += pages.length;
      },
    });
    const bench = new VirtioBench(device).start();
    const size = 1 << 20;
    const parts = new Array<{ gpa: number; length: number }>(100).fill({ gpa: 4 << 20, length: size });
    bench.queue(4).add([], parts);
    bench.kick(4);
    expect(bench.queue(4).collect()).toHaveLength(1);
    expect(bytes).toBeLessThanOrEqual(16 << 20);
  });

  it("shows the target, and hears what the guest has given up", () => {
    const { device, bench, tell } = setup();
    expect(bench.endpoint.readConfig(0, 4)).toBe(512);
    tell(
      0,
      Uint8Array.from({ length: 12 }, (_, i) => i),
    ); // three page numbers
    bench.endpoint.writeConfig(4, 4, 3);
    tell(1, new Uint8Array(4));
    expect(bench.queue(0).collect()).toHaveLength(1);
    expect(bench.endpoint.stats()).toMatchObject({ pagesInflated: 3, pagesDeflated: 1 });
    expect(device.actualMib).toBe(3 / 256);
  });

  it("gives pages of the balloon back, neighbours together, and only memory", () => {
    const { bench, tell, reclaimed } = setup();
    const rising = [0x300, 0x301, 0x302];
    const falling = [0x402, 0x401];
    const beyond = [0x1000, 0xffff_ffff]; // 16 MiB is where memory ends
    for (const page of [...rising, ...falling]) bench.memory.writeU32(page * 4096, 7);
    tell(0, new Uint8Array(Uint32Array.of(...rising, ...falling, ...beyond).buffer));
    expect(reclaimed.map(({ byteOffset, length }) => [byteOffset / 4096, length / 4096])).toEqual([
      [0x300, 3],
      [0x401, 2],
    ]);
    expect([...rising, ...falling].map((page) => bench.memory.readU32(page * 4096))).toEqual([0, 0, 0, 0, 0]);
    expect(bench.endpoint.stats()).toMatchObject({ pagesInflated: 7, pagesReclaimed: 5, pagesDeflated: 0 });
    expect(bench.queue(0).collect()).toHaveLength(1);
  });

  it.each([3, 4])("gives whole pages back that the guest reports as free, on queue %i", (queue) => {
    const { bench, reclaimed } = setup();
    bench.memory.writeU32(0x20_0000, 7);
    bench.queue(queue).add(
      [],
      [
        { gpa: 0x20_0000, length: 0x20_0000 },
        { gpa: 0x50_0800, length: 0x1000 }, // half of two pages
        { gpa: 0x60_0800, length: 0x2000 },
      ],
    );
    bench.kick(queue);
    expect(reclaimed.map(({ byteOffset, length }) => [byteOffset, length])).toEqual([
      [0x20_0000, 0x20_0000],
      [0x60_1000, 0x1000],
    ]);
    expect(bench.queue(queue).collect()).toHaveLength(1);
  });

  it("moves the target by a configuration interrupt", () => {
    const { device, bench } = setup();
    device.targetMib = 1;
    expect([bench.endpoint.readConfig(0, 4), bench.configInterrupts]).toEqual([256, 1]);
  });

  it("keeps the buffer of statistics until it wants new ones", () => {
    const { device, bench, tell } = setup();
    tell(2, Uint8Array.from([...stat(4, 5_000_000_000), ...stat(5, 7), ...stat(99, 1)]));
    expect(device.statistics).toEqual({ freeMemory: 5_000_000_000, totalMemory: 7 });
    expect(bench.queue(2).collect()).toEqual([]);
    device.requestStatistics();
    expect(bench.queue(2).collect()).toHaveLength(1);
    expect(bench.interrupts[2]).toBe(1);
  });

  it("still holds the buffer of statistics after a restore", () => {
    const { bench, tell } = setup();
    tell(2, Uint8Array.from(stat(4, 9)));
    const device = new VirtioBalloon({ targetMib: 2 });
    const twin = new VirtioBench(device, { memory: bench.memory });
    twin.endpoint.restore(
      JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<typeof bench.endpoint.save>,
    );
    expect(device.statistics).toEqual({ freeMemory: 9 });
    twin.endpoint.resume();
    device.requestStatistics();
    expect(bench.queue(2).collect()).toHaveLength(1);
  });

  it.each([false, true])(
    "asks a machine that is paused when it goes on, restored or not",
    async (isRestored) => {
      const { device, bench, tell } = setup();
      tell(2, Uint8Array.from(stat(4, 9)));
      await bench.endpoint.pause();
      device.requestStatistics();
      expect(bench.queue(2).collect()).toEqual([]);
      const twin = new VirtioBench(new VirtioBalloon({ targetMib: 2 }), { memory: bench.memory });
      twin.endpoint.restore(bench.endpoint.save());
      (isRestored ? twin : bench).endpoint.resume();
      expect(bench.queue(2).collect()).toHaveLength(1);
    },
  );

  it("obeys the monitor", async () => {
    const { device, bench } = setup();
    expect(await device.monitorCommand(["target", "7"])).toBe("7 MiB");
    expect(bench.endpoint.readConfig(0, 4)).toBe(7 * 256);
    await expect(device.monitorCommand(["target", "-1"])).rejects.toThrow(
      /expected target MIB or statistics/,
    );
  });

  describe("asked for statistics at the monitor", () => {
    const ask = async (device: VirtioBalloon): Promise<unknown> =>
      JSON.parse(await device.monitorCommand(["statistics"]));

    it("answers what the guest says to this request, and nothing of earlier ones", async () => {
      const { device, bench, tell } = setup();
      tell(2, Uint8Array.from([...stat(4, 9), ...stat(5, 100)]));
      const answers = [ask(device), ask(device)];
      expect(bench.queue(2).collect()).toHaveLength(1);
      bench.endpoint.writeConfig(4, 4, 512);
      tell(2, Uint8Array.from(stat(4, 3)));
      expect(await Promise.all(answers)).toEqual([
        { freeMemory: 3, actualMib: 2 },
        { freeMemory: 3, actualMib: 2 },
      ]);
    });

    it("says that they are old where the guest does not answer in time, cannot, or is not there", async () => {
      const { device, bench, tell, clock } = setup();
      tell(2, Uint8Array.from(stat(4, 9)));
      const old = { freeMemory: 9, actualMib: 0, isOld: true };
      const late = ask(device);
      clock.advance(1e9);
      expect(await late).toEqual(old);
      const cutShort = ask(device);
      await bench.endpoint.pause();
      expect(await cutShort).toEqual(old);
      expect(await ask(device)).toEqual(old);
      expect(await ask(new VirtioBalloon())).toEqual({ actualMib: 0, isOld: true });
    });
  });
});
