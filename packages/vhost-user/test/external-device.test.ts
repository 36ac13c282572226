import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtioBlk } from "@northbridge/devices-virtio";
import type { BlockBackend } from "@northbridge/sdk";
import { type FakeMemory, VirtioBench } from "@northbridge/sdk/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ExternalDevice, SharedRam, VhostUserBackend } from "../src/index.ts";
import { createMemory, memoryDisk } from "./devices.ts";
import { turn } from "./raw-front-end.ts";
import { sharedMemory } from "./shared-memory.ts";

const BLOCK = 2;
const CONFIG_BYTES = 60;
const SECTOR = 512;
const [IN, OUT] = [0, 1];
const QUEUE_SIZE = 16;

/** A disk that counts writes, and ends them when the test says so. */
class SlowDisk {
  readonly written: number[] = [];
  readonly held: (() => void)[] = [];
  isSlow = false;
  readonly backend: BlockBackend;

  constructor() {
    const disk = memoryDisk();
    this.backend = {
      size: disk.size,
      blockSize: disk.blockSize,
      readOnly: false,
      read: (offset, into) => disk.read(offset, into),
      write: async (offset, from) => {
        this.written.push(offset / SECTOR);
        if (this.isSlow) await new Promise<void>((resolve) => this.held.push(resolve));
        await disk.write(offset, from);
      },
      flush: () => disk.flush(),
      close: () => disk.close(),
    };
  }
}

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("a device that another process serves (needs Linux on x86-64)", () => {
  let directory: string;
  let backend: VhostUserBackend;
  let disk: SlowDisk;
  const closers: (() => void)[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
    disk = new SlowDisk();
    backend = new VhostUserBackend({
      device: new VirtioBlk({ backend: disk.backend, serial: "far", queueSize: QUEUE_SIZE }),
      createMemory,
    });
    backend.listen(join(directory, "blk.sock"));
  });
  afterEach(async () => {
    for (const close of closers.splice(0)) close();
    await backend.close();
    rmSync(directory, { recursive: true });
  });

  /** The device in a machine with this memory. */
  const device = async (memory: FakeMemory): Promise<ExternalDevice> => {
    const ram = new SharedRam(memory.slots);
    const made = await ExternalDevice.connect({
      socket: join(directory, "blk.sock"),
      deviceId: BLOCK,
      queues: [QUEUE_SIZE],
      config: CONFIG_BYTES,
      ram,
    });
    closers.push(() => {
      made.close();
      ram.close();
    });
    return made;
  };

  /** A driver's requests, by the id that its queue gives them. */
  const requests = (bench: VirtioBench, notify: (queue: number) => void) => {
    const statuses = new Map<number, { readonly data: number; readonly status: number }>();
    const done = new Map<number, number>();
    const offer = (type: number, sector: number, byte: number): number => {
      const header = bench.allocBytes(Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, sector, 0, 0, 0, 0, 0, 0, 0));
      const data = bench.allocBytes(new Uint8Array(SECTOR).fill(byte));
      const status = bench.allocBytes(Uint8Array.of(0xff));
      const body = { gpa: data, length: SECTOR };
      const id = bench
        .queue(0)
        .add(
          [{ gpa: header, length: 16 }, ...(type === OUT ? [body] : [])],
          [...(type === IN ? [body] : []), { gpa: status, length: 1 }],
        )!;
      statuses.set(id, { data, status });
      if (bench.queue(0).needsNotification()) notify(0);
      return id;
    };
    const finish = async (...ids: readonly number[]): Promise<void> => {
      for (let patience = 0; ids.some((id) => !done.has(id)) && patience < 5000; patience++) {
        for (const { id } of bench.queue(0).collect()) {
          expect(done.has(id) || !statuses.has(id)).toBe(false); // each once
          done.set(id, bench.memory.readU8(statuses.get(id)!.status));
        }
        await turn();
      }
      expect(ids.map((id) => done.get(id))).toEqual(ids.map(() => 0));
      for (const id of ids) done.delete(id);
    };
    return { offer, finish, dataOf: (id: number) => bench.memory.readU8(statuses.get(id)!.data) };
  };

  it("reads what was written, and has the back end's configuration", async () => {
    const memory = sharedMemory();
    const bench = new VirtioBench(await device(memory), { memory }).start();
    expect(bench.endpoint.readConfig(0, 4)).toBe(2048); // sectors
    const { offer, finish, dataOf } = requests(bench, (queue) => {
      bench.endpoint.notify(queue);
    });
    const write = offer(OUT, 5, 0xab);
    await finish(write);
    const read = offer(IN, 5, 0);
    await finish(read);
    expect(dataOf(read)).toBe(0xab);
  });

  it("goes on in a restored machine: what was under way and what was not are each served once", async () => {
    const memory = sharedMemory();
    const first = new VirtioBench(await device(memory), { memory }).start();
    let current = first;
    const { offer, finish, dataOf } = requests(first, (queue) => {
      current.endpoint.notify(queue);
    });
    await finish(offer(OUT, 1, 0x11));
    disk.isSlow = true;
    const underWay = [offer(OUT, 2, 0x22), offer(OUT, 3, 0x33)];
    while (disk.held.length < 2) await turn();
    const paused = first.endpoint.pause();
    for (const end of disk.held.splice(0)) end();
    await paused;
    disk.isSlow = false;
    const late = offer(OUT, 4, 0x44); // the guest's last one, which no device has looked at
    const state = JSON.parse(JSON.stringify(first.endpoint.save())) as ReturnType<typeof first.endpoint.save>;
    for (const close of closers.splice(0)) close();

    current = new VirtioBench(await device(memory), { memory });
    current.endpoint.restore(state);
    current.endpoint.resume();
    await finish(...underWay, late);
    expect(disk.written.toSorted()).toEqual([1, 2, 3, 4]);
    for (const [sector, byte] of [
      [1, 0x11],
      [2, 0x22],
      [3, 0x33],
      [4, 0x44],
    ] as const) {
      const read = offer(IN, sector, 0);
      await finish(read);
      expect(dataOf(read)).toBe(byte);
    }
  });

  it("serves a machine again that was paused, with requests that came meanwhile", async () => {
    const memory = sharedMemory();
    const bench = new VirtioBench(await device(memory), { memory }).start();
    const { offer, finish } = requests(bench, (queue) => {
      bench.endpoint.notify(queue);
    });
    for (let round = 0; round < 5; round++) {
      const before = offer(OUT, 1, round);
      await bench.endpoint.pause();
      const meanwhile = offer(OUT, 2, round);
      bench.endpoint.resume();
      await finish(before, meanwhile, offer(OUT, 3, round));
    }
    expect(disk.written).toHaveLength(15);
  });
});
