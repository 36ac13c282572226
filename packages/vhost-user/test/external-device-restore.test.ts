import { LoopbackNet, MemoryBlock } from "@northbridge/core";
import { VirtioBlk, VirtioNet, VirtioRng } from "@northbridge/devices-virtio";
import type { BlockBackend } from "@northbridge/sdk";
import type { EndpointStateV1 } from "@northbridge/sdk/virtio";
import { describe, expect, it, vi } from "vitest";
import type { SocketDeviceOptions } from "../src/index.ts";
import { memoryDisk } from "./devices.ts";
import { turn } from "./raw-front-end.ts";
import { RETRY_MS, socketBench } from "./socket-bench.ts";

// Virtio 1.3 §5.2.3, §5.2.4.
const [FLUSH, CONFIG_WCE] = [9, 11];
const [CAPACITY, WRITEBACK, NUM_QUEUES] = [0, 32, 34];
/** Of a network card (§5.1.4). */
const STATUS = 6;
const SECTOR = 512;

/** As the command has it of a disk. */
const disk: Partial<SocketDeviceOptions> = {
  identity: [{ name: "capacity", offset: CAPACITY, length: 8 }],
  writable: [{ name: "writeback", offset: WRITEBACK, length: 1, feature: CONFIG_WCE }],
};

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("a saved device and its next back end (needs Linux on x86-64)", () => {
  const { socket, serve, connect, machine, inMachine, until, read } = socketBench();

  /** State of a machine that has read its disk, and its RAM. */
  const saved = async (device: VirtioBlk, options: Partial<SocketDeviceOptions> = {}) => {
    const backend = serve(device);
    const { bench, device: front } = await inMachine({ ...disk, ...options });
    await until(read(bench));
    bench.endpoint.writeConfig(WRITEBACK, 1, 0);
    await bench.endpoint.pause();
    expect(device.config[WRITEBACK]).toBe(0);
    const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as EndpointStateV1;
    front.close();
    await backend.close();
    return { state, bench };
  };
  const without = (device: VirtioBlk, ...bits: readonly number[]): VirtioBlk =>
    Object.defineProperty(device, "features", {
      value: device.features.filter((bit) => !bits.includes(bit)),
    });
  const smaller = (): BlockBackend => new MemoryBlock(new Uint8Array(SECTOR * 8));

  it.each([
    {
      what: "a feature",
      next: () => without(new VirtioBlk({ backend: memoryDisk(), serial: "d" }), FLUSH),
      refusal: /offered features 0x\w+, expected 0x\w+: they differ in bits 9$/,
    },
    {
      what: "sectors",
      next: () => new VirtioBlk({ backend: smaller(), serial: "d" }),
      refusal: /capacity: bytes 0,8,0,0,0,0,0,0, expected 8,0,0,0,0,0,0,0$/,
    },
  ])("is refused by name, before the guest runs, where that lacks $what", async ({ next, refusal }) => {
    const { state } = await saved(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    serve(next());
    const { bench } = await machine(disk);
    expect(() => {
      bench.endpoint.restore(state);
    }).toThrow(refusal);
  });

  it("is refused by name where that has fewer queues, or no configuration space", async () => {
    const ram = { regions: [] };
    const disks = serve(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    const fewer = `${socket()}: expected 2 queues, found 1`;
    await expect(connect({ ram, queues: [16, 16] })).rejects.toThrow(fewer);
    await disks.close();
    serve(new VirtioRng({ entropy: { fill: () => undefined } }));
    const none = `${socket()}: expected the protocol feature CONFIG, found none`;
    await expect(connect({ ram })).rejects.toThrow(none);
  });

  it("has the cache that the driver chose, also where that resets its disk as it starts", async () => {
    const { state, bench: old } = await saved(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    const second = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    const backend = serve(second);
    // Somebody else's machine: the back end finds out that this one is another by its rings.
    const other = await inMachine(disk);
    await until(read(other.bench));
    other.device.close();

    const { bench } = await machine(disk);
    bench.memory.slots[0]!.bytes.set(old.memory.slots[0]!.bytes);
    bench.endpoint.restore(state);
    bench.endpoint.resume();
    bench.queues.push(...old.queues);
    expect([bench.endpoint.readConfig(WRITEBACK, 1), second.config[WRITEBACK]]).toEqual([0, 1]);
    await until(() => second.config[WRITEBACK] === 0);
    expect(bench.endpoint.readConfig(WRITEBACK, 1)).toBe(0);
    await backend.close();

    const third = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    serve(third);
    await until(() => {
      vi.advanceTimersByTime(RETRY_MS);
      return third.config[WRITEBACK] === 0;
    });
    expect(bench.endpoint.readConfig(WRITEBACK, 1)).toBe(0);
    expect(bench.configInterrupts).toBe(0);
  });

  it("shows that a back end is there, though the saved machine's was gone, and changes nothing in one that stands", async () => {
    const card = (): Partial<SocketDeviceOptions> => ({
      deviceId: 1,
      queues: [16, 16],
      config: new Uint8Array(8),
      connected: (isConnected, config) => {
        config[STATUS] = isConnected ? 1 : 0;
      },
    });
    const served = (): VirtioNet => new VirtioNet({ backend: new LoopbackNet(), mac: new Uint8Array(6) });
    const first = serve(served());
    const { bench, device } = await inMachine(card());
    await first.close();
    await until(() => bench.endpoint.readConfig(STATUS, 1) === 0);
    await bench.endpoint.pause();
    const second = serve(served());
    await until(() => {
      vi.advanceTimersByTime(RETRY_MS);
      return device.stats()["reconnects"] === 1;
    });
    expect([bench.endpoint.readConfig(STATUS, 1), bench.configInterrupts]).toEqual([0, 1]);
    const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as EndpointStateV1;
    device.close();

    const { bench: restored } = await machine(card());
    restored.memory.slots[0]!.bytes.set(bench.memory.slots[0]!.bytes);
    restored.endpoint.restore(state);
    expect(restored.endpoint.readConfig(STATUS, 1)).toBe(0);
    restored.endpoint.resume();
    expect([restored.endpoint.readConfig(STATUS, 1), restored.configInterrupts]).toEqual([1, 1]);
    await second.close();
    await until(() => restored.endpoint.readConfig(STATUS, 1) === 0);
  });

  it("forgets with its driver which cache that chose (§5.2.5.2)", async () => {
    const device = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    serve(device);
    const { bench } = await inMachine(disk);
    bench.endpoint.writeConfig(WRITEBACK, 1, 0);
    await until(() => device.config[WRITEBACK] === 0);
    bench.endpoint.reset();
    expect(bench.endpoint.readConfig(WRITEBACK, 1)).toBe(1);
  });

  it("keeps what this side says of it with every back end", async () => {
    const served = (): VirtioBlk => new VirtioBlk({ backend: memoryDisk(), serial: "d", queues: 2 });
    const first = serve(served());
    const own = (config: Uint8Array): void => void (config[NUM_QUEUES] = 1);
    const { bench, device } = await inMachine({ ...disk, own });
    expect(bench.endpoint.readConfig(NUM_QUEUES, 2)).toBe(1);
    await first.close();
    serve(served());
    await until(() => {
      vi.advanceTimersByTime(RETRY_MS);
      return device.stats()["reconnects"] === 1;
    });
    expect(bench.endpoint.readConfig(NUM_QUEUES, 2)).toBe(1);
    expect(device.stats()).toMatchObject({ configChanges: 0 });
  });

  it("lets its driver write nothing else", async () => {
    const device = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    serve(device);
    const { bench } = await inMachine(disk);
    const before = [...device.config];
    for (const offset of [CAPACITY, WRITEBACK - 1, WRITEBACK + 1]) bench.endpoint.writeConfig(offset, 2, 0);
    await until(read(bench));
    expect(Array.from(before, (_, i) => bench.endpoint.readConfig(i, 1))).toEqual(before);
  });

  /** A disk whose reads of its first sector end when the test says so. */
  const slowDisk = (): { readonly backend: BlockBackend; readonly held: (() => void)[] } => {
    const slow = memoryDisk();
    const held: (() => void)[] = [];
    const backend: BlockBackend = {
      size: slow.size,
      blockSize: slow.blockSize,
      readOnly: false,
      read: async (offset, into) => {
        if (offset === 0) await new Promise<void>((resolve) => held.push(resolve));
        for (const bytes of into) bytes.fill(0x5a);
      },
      write: (offset, from) => slow.write(offset, from),
      flush: () => slow.flush(),
      close: () => slow.close(),
    };
    return { backend, held };
  };
  const turns = async (): Promise<void> => {
    for (let count = 0; count < 20; count++) await turn();
  };

  it("has nothing of a queue under way once that is reset", async () => {
    const { backend, held } = slowDisk();
    serve(new VirtioBlk({ backend, serial: "d", queues: 2 }));
    const { bench } = await inMachine({ ...disk, queues: [16, 16] });
    read(bench);
    await until(() => held.length === 1);
    const registers = bench.endpoint.queues[0]!;
    bench.endpoint.resetQueue(0);
    await turns();
    expect(registers.isResetting).toBe(true);
    for (const end of held.splice(0)) end();
    await until(() => !registers.isResetting);
    const ram = bench.memory.slots[0]!.bytes;
    const then = ram.slice();
    await turns();
    expect(ram.every((byte, at) => byte === then[at])).toBe(true);
    expect(held.length).toBe(0);
  });

  it("has nothing under way once it is paused, though it was being reset", async () => {
    const { backend, held } = slowDisk();
    serve(new VirtioBlk({ backend, serial: "d" }));
    const { bench } = await inMachine(disk);
    read(bench);
    await until(() => held.length === 1);
    bench.endpoint.setStatus(0);
    await turns();
    let isPaused = false;
    const paused = bench.endpoint.pause().then(() => (isPaused = true));
    await turns();
    expect(isPaused).toBe(false);
    for (const end of held.splice(0)) end();
    await paused;
    expect(bench.endpoint.status).toBe(0);
  });
});
