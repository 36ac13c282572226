import { VhostNet } from "@northbridge/linux";
import { VhostNetServer, type VhostTap } from "@northbridge/net-tap";
import type { NetOffloads } from "@northbridge/sdk";
import { FakeMemory, VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { FakeVhost } from "../../test/vhost/fake-vhost.ts";
import { vhostNetCard } from "./vhost-net.ts";

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const HEADER = 12;
const BUFFER = 2048;
const TAP_FD = 77;
/** Where rings of two queues lie, behind all memory there can be. */
const RINGS = `${2 ** 44}+131072`;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function until(isSo: () => boolean): Promise<void> {
  for (let patience = 0; !isSo(); patience++) {
    expect(patience).toBeLessThan(20_000);
    await turn();
  }
}

/** A card on a kernel of our own, and a driver of it. */
class CardBench {
  readonly kernel = new FakeVhost();
  readonly taken: NetOffloads[] = [];
  readonly sent: Uint8Array[] = [];
  readonly memory: FakeMemory;
  readonly server: VhostNetServer;
  bench!: VirtioBench;
  device!: Awaited<ReturnType<typeof vhostNetCard>>;

  private constructor(memory: FakeMemory) {
    this.memory = memory;
    const tap: VhostTap = {
      name: "tap0",
      mtu: 1400,
      fds: [TAP_FD],
      setOffloads: (taken) => this.taken.push(taken),
      close: () => this.kernel.asked.push("tap closed"),
    };
    const vhost = new VhostNet(this.kernel.ask, () => {
      this.kernel.close();
    });
    this.server = new VhostNetServer(vhost, tap);
    this.kernel.transmit = (packet) => this.sent.push(packet);
  }

  static async make(memory: FakeMemory = new FakeMemory(4 << 20)): Promise<CardBench> {
    const card = new CardBench(memory);
    card.device = await vhostNetCard(card.server, MAC, memory.slots);
    card.bench = new VirtioBench(card.device, { memory });
    return card;
  }

  start(): this {
    this.bench.start();
    return this;
  }

  isServed(): boolean {
    return this.kernel.asked.at(-1)?.startsWith("NET_SET_BACKEND 1: 77") === true;
  }

  offer(count: number, length = BUFFER): void {
    for (let index = 0; index < count; index++)
      this.bench.queue(0).add([], [{ gpa: this.bench.alloc(length), length }]);
    this.bench.kick(0);
  }

  send(...bytes: readonly number[]): void {
    const packet = Uint8Array.from([...new Uint8Array(HEADER), ...bytes]);
    this.bench.queue(1).add([{ gpa: this.bench.allocBytes(packet), length: packet.length }], []);
    this.bench.kick(1);
  }

  async received(count: number): Promise<readonly number[]> {
    const written: number[] = [];
    await until(() => {
      written.push(
        ...this.bench
          .queue(0)
          .collect()
          .map((used) => used.written),
      );
      return written.length >= count;
    });
    return written;
  }
}

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("vhostNet, on a kernel of the test's own (needs Linux on x86-64)", () => {
  it("asks in the kernel's order for memory, rings and the tap, and gives all of it back", async () => {
    const card = await CardBench.make();
    expect(card.kernel.asked).toEqual(["SET_OWNER", "GET_FEATURES"]);
    card.start();
    await until(() => card.isServed());
    await card.bench.endpoint.pause();
    card.bench.endpoint.resume();
    await until(() => card.isServed());
    card.bench.endpoint.setStatus(0);
    await turn();
    card.device.close();
    const rings = [0, 1].flatMap((index) => [
      `SET_VRING_NUM ${index}: 1024`,
      `SET_VRING_BASE ${index}: 0`,
      `SET_VRING_ADDR ${index}`,
      `SET_VRING_KICK ${index}`,
      `SET_VRING_CALL ${index}`,
    ]);
    const start = [...rings, "NET_SET_BACKEND 0: 77", "NET_SET_BACKEND 1: 77"];
    const stop = [0, 1].flatMap((index) => [`NET_SET_BACKEND ${index}: -1`, `GET_VRING_BASE ${index}: 0`]);
    expect(card.kernel.asked).toEqual([
      "SET_OWNER",
      "GET_FEATURES",
      "SET_FEATURES 15 29 32",
      `SET_MEM_TABLE 0+${4 << 20} ${RINGS}`,
      ...start,
      ...stop,
      ...start,
      ...stop,
      "close",
      "tap closed",
    ]);
  });

  it("shows address and MTU, and leaves to tap and driver what they agree on", async () => {
    const card = (await CardBench.make()).start();
    await until(() => card.isServed());
    const { endpoint } = card.bench;
    const config = Array.from({ length: 12 }, (_, i) => endpoint.readConfig(i, 1));
    expect(config).toEqual([...MAC, 1, 0, 0, 0, 1400 & 255, 1400 >> 8]);
    expect(card.taken).toEqual([{ checksum: true, tso4: true, tso6: true, ecn: true, uso: false }]);
    card.device.close();
  });

  it("has frames go both ways through rings in this process's memory", async () => {
    const card = (await CardBench.make()).start();
    await until(() => card.isServed());
    // More than either ring holds.
    let given = 0;
    for (let round = 0; round < 1400; round++) {
      card.send(round & 255, round >> 8);
      if (round % 200 === 199)
        await until(() => (given += card.bench.queue(1).collect().length) === round + 1);
    }
    expect(card.sent).toHaveLength(given);
    expect(card.sent.map((packet) => [...packet.subarray(HEADER)])).toEqual(
      card.sent.map((_, round) => [round & 255, round >> 8]),
    );
    let rooms = 0;
    card.kernel.offered = () => rooms++;
    card.offer(3, 64);
    await until(() => rooms > 0);
    const packet = Uint8Array.from({ length: 150 }, (_, i) => (i < HEADER ? 0 : i));
    expect([card.kernel.receive(packet), card.kernel.receive(packet)]).toEqual([true, false]);
    expect(await card.received(3)).toEqual([64, 64, 22]);
    // The machine hears of what was written for it.
    expect(card.memory.writes.some(({ length }) => length === 64)).toBe(true);
    card.device.close();
  });

  it("goes on in a restored machine, with the buffers that the kernel had", async () => {
    const first = (await CardBench.make()).start();
    await until(() => first.isServed());
    first.offer(4);
    first.send(1, 2, 3);
    await until(() => first.sent.length === 1);
    expect(first.kernel.receive(new Uint8Array(100))).toBe(true);
    await first.bench.endpoint.pause();
    const saved = JSON.parse(JSON.stringify(first.bench.endpoint.save())) as ReturnType<
      typeof first.bench.endpoint.save
    >;
    first.device.close();

    const second = await CardBench.make(first.memory);
    second.bench.endpoint.restore(saved);
    second.bench.endpoint.resume();
    await until(() => second.isServed());
    // One of the four was used before.
    expect([1, 2, 3, 4].map(() => second.kernel.receive(new Uint8Array(100)))).toEqual([
      true,
      true,
      true,
      false,
    ]);
    let used = 0;
    await until(() => (used += first.bench.queue(0).collect().length) === 4);
    second.device.close();
  });

  it("pulls the cable where the kernel refuses a ring", async () => {
    const card = await CardBench.make();
    card.kernel.refuses = "NET_SET_BACKEND";
    card.start();
    await until(() => card.bench.endpoint.readConfig(6, 2) === 0);
    expect([card.bench.configInterrupts, card.device.stats()["refusals"]]).toEqual([1, 1]);
    card.device.close();
  });
});
