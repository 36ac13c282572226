import { rmSync } from "node:fs";
import { VirtioBlk, VirtioFs } from "@northbridge/devices-virtio";
import { close, createMemfd } from "@northbridge/linux";
import type { BlockBackend } from "@northbridge/sdk";
import { VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it, vi } from "vitest";
import { SharedRam } from "../src/index.ts";
import { memoryDisk } from "./devices.ts";
import { turn } from "./raw-front-end.ts";
import { sharedMemory } from "./shared-memory.ts";
import { RETRY_MS, socketBench } from "./socket-bench.ts";

const FS = 26;
const [FLUSH, CONFIG_WCE] = [9, 11];

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("a device whose back end is not what it should be (needs Linux on x86-64)", () => {
  const { socket, closers, serve, connect, inMachine, until, read, impostor } = socketBench();

  it("is waited for once a second, however it hangs up", async () => {
    const backend = serve(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    const { bench } = await inMachine();
    await until(read(bench));
    await backend.close();
    rmSync(socket(), { force: true });
    let connections = 0;
    await impostor((connection) => {
      connections++;
      connection.destroy();
    });
    await until(() => {
      vi.advanceTimersByTime(RETRY_MS);
      expect(vi.getTimerCount()).toBeLessThanOrEqual(1);
      return connections === 6;
    });
  });

  it("is said to lack what the driver uses, and replaced by one that has it", async () => {
    const lines: string[] = [];
    const first = serve(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    const { device, bench } = await inMachine({ say: (line) => lines.push(line) });
    await until(read(bench));
    await first.close();
    const answered = read(bench);

    const lesser = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    Object.defineProperty(lesser, "features", { value: lesser.features.filter((bit) => bit !== FLUSH) });
    const second = serve(lesser);
    for (let times = 1; times <= 2; times++) {
      await until(() => vi.getTimerCount() === 1);
      vi.advanceTimersByTime(RETRY_MS);
      await until(() => device.stats()["refusals"] === times);
    }
    expect(lines).toEqual([
      `${socket()}: vhost-user GET_FEATURES: expected the features the driver uses, found none of ${FLUSH}`,
    ]);
    await second.close();

    const larger = memoryDisk();
    serve(new VirtioBlk({ backend: larger, serial: "d" }));
    await until(() => vi.getTimerCount() === 1);
    vi.advanceTimersByTime(RETRY_MS);
    await until(answered);
  });

  it("is let go where it refuses rings, and asked again", async () => {
    serve(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    const lines: string[] = [];
    // Two regions at the same place: no back end takes that.
    const memory = sharedMemory();
    const ram = new SharedRam(memory.slots);
    const [region] = ram.regions;
    closers.push(() => {
      ram.close();
    });
    const regions = [region!, region!];
    const device = await connect({
      ram: { regions },
      say: (line) => lines.push(line),
    });
    const bench = new VirtioBench(device, { memory }).start();
    await until(() => lines.length === 1);
    expect(lines[0]).toContain("SET_MEM_TABLE");
    const answered = read(bench);
    regions.pop();
    await until(() => vi.getTimerCount() === 1);
    vi.advanceTimersByTime(RETRY_MS);
    await until(answered);
  });

  it("is waited for where it goes when it is told what the driver wrote", async () => {
    const first = new VirtioBlk({ backend: memoryDisk(), serial: "d" });
    const backend = serve(first);
    first.writeConfig = () => void backend.close();
    const writeback = { name: "writeback", offset: 32, length: 1, feature: CONFIG_WCE };
    const said: boolean[] = [];
    const connected = (isConnected: boolean): void => void said.push(isConnected);
    const { bench, device } = await inMachine({ writable: [writeback], connected });
    const answered = read(bench);
    await until(() => said.includes(false));
    expect(said).toEqual([true, false]);
    serve(new VirtioBlk({ backend: memoryDisk(), serial: "d" }));
    vi.advanceTimersByTime(RETRY_MS);
    await until(answered);
    expect(device.stats()).toMatchObject({ requests: 1, reconnects: 1 });
  });

  it("leaves no connection open where it cannot be agreed with", async () => {
    let isOpen = false;
    await impostor((connection) => {
      isOpen = true;
      connection.on("close", () => {
        isOpen = false;
      });
      connection.once("data", (asked) => {
        const answer = Buffer.alloc(16); // half of what GET_FEATURES says
        answer.writeUInt32LE(asked.readUInt32LE(0), 0);
        answer.writeUInt32LE(0b101, 4);
        answer.writeUInt32LE(4, 8);
        connection.write(answer);
      });
    });
    await expect(connect({ ram: { regions: [] } })).rejects.toThrow("too short");
    await until(() => !isOpen);
  });

  it("is told of all rings in one region of the eight there may be", async () => {
    const queues = new Array<number>(7).fill(16);
    const backend = serve(new VirtioBlk({ backend: memoryDisk(), serial: "d", queues: queues.length }));
    const memory = sharedMemory();
    const own = new SharedRam(memory.slots);
    const more = Array.from({ length: 7 }, (_, i) => ({
      gpa: (i + 1) << 24,
      size: 1 << 16,
      userAddress: (i + 1) << 24,
      fd: createMemfd("ram", 1 << 16),
      offset: 0,
    }));
    closers.push(() => {
      own.close();
      for (const { fd } of more) close(fd);
    });
    const tooMany = { regions: [...own.regions, ...more] };
    await expect(connect({ ram: tooMany, queues })).rejects.toThrow("at most 7 regions of memory, found 8");
    const ram = { regions: tooMany.regions.slice(0, 7) };
    const bench = new VirtioBench(await connect({ ram, queues }), { memory }).start();
    await until(read(bench));
    expect(backend.stats()["closed.tooManyDescriptors"]).toBeUndefined();
  });

  it("gets again what later requests had overtaken when the rings stopped", async () => {
    const disk = memoryDisk();
    let failures = 1;
    const backend: BlockBackend = {
      size: disk.size,
      blockSize: disk.blockSize,
      readOnly: false,
      read: async (offset, into) => {
        if (offset === 0) await turn();
        if (offset === 0 && failures-- > 0) throw new Error("for now");
        return disk.read(offset, into);
      },
      write: (offset, from) => disk.write(offset, from),
      flush: () => disk.flush(),
      close: () => disk.close(),
    };
    const served = serve(new VirtioBlk({ backend, serial: "d", onError: "stop" }));
    const { bench } = await inMachine();
    const first = read(bench);
    const second = read(bench, 1);
    await until(second);
    await bench.endpoint.pause();
    expect([first(), served.stats()["requestsOvertaken"]]).toEqual([false, 1]);
    bench.endpoint.resume();
    await until(first);
  });

  it("goes on with a file system after a pause, and finds it reset by a new driver (docs/adr/0022)", async () => {
    let sessions = 0;
    const tree = {
      forgetAll: () => {
        sessions++;
      },
      getAttributes: () => -2,
    };
    serve(new VirtioFs({ tree: tree as never, tag: "t" }));
    const { device, bench } = await inMachine({ deviceId: FS, queues: [16, 16], config: new Uint8Array(40) });
    /** FUSE_INIT or FUSE_GETATTR on the second queue; the first is never used. */
    const ask = async (driver: VirtioBench, opcode: number): Promise<void> => {
      const words = Uint32Array.of(64, opcode, 1, 0, 1, 0, 0, 0, 0, 0, 7, 38, 0, 0, 0, 0);
      const request = driver.allocBytes(new Uint8Array(words.buffer));
      const answer = driver.allocBytes(new Uint8Array(160));
      driver.queue(1).add([{ gpa: request, length: 64 }], [{ gpa: answer, length: 160 }]);
      driver.endpoint.notify(1);
      await until(() => driver.queue(1).collect().length === 1);
    };
    await ask(bench, 26);
    await ask(bench, 3);
    const before = sessions;
    for (let pauses = 0; pauses < 3; pauses++) {
      await bench.endpoint.pause();
      bench.endpoint.resume();
      await ask(bench, 3);
    }
    expect(sessions).toBe(before);
    await bench.endpoint.pause();
    bench.endpoint.resume();
    bench.endpoint.setStatus(0);
    await until(() => bench.endpoint.status === 0);
    const again = new VirtioBench(device, { memory: bench.memory }).start();
    await ask(again, 3);
    expect(sessions).toBe(before + 1);
  });
});
