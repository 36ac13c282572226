import { type BlockBackend, NorthbridgeError } from "@northbridge/sdk";
import { FakeClock, FakeMemory, VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtioBlk, type VirtioBlkDeps } from "./virtio-blk.ts";

// From the specification, not from our constants (virtio 1.3 §5.2.6).
const IN = 0;
const OUT = 1;
const FLUSH = 4;
const GET_ID = 8;
const DISCARD = 11;
const WRITE_ZEROES = 13;
const [OK, IOERR, UNSUPP] = [0, 1, 2];

/** A disk whose operations end when the test says so, in the order it says. */
class HeldDisk implements BlockBackend {
  readonly blockSize = 512;
  readonly bytes: Uint8Array;
  readOnly = false;
  isHeld = false;
  failure: Error | undefined;
  readonly log: string[] = [];
  readonly held: (() => void)[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#later(`read ${offset}`, () => {
      let at = offset;
      for (const part of into) {
        part.set(this.bytes.subarray(at, at + part.length));
        at += part.length;
      }
    });
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#later(`write ${offset}`, () => {
      let at = offset;
      for (const part of from) {
        this.bytes.set(part, at);
        at += part.length;
      }
    });
  }

  flush(): Promise<void> {
    return this.#later("flush", () => undefined);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#later(`discard ${offset} ${length}`, () => undefined);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#later(`zeroes ${offset} ${length} ${mayUnmap}`, () => {
      this.bytes.fill(0, offset, offset + length);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #later(what: string, act: () => void): Promise<void> {
    this.log.push(what);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        if (this.failure !== undefined) {
          reject(this.failure);
          return;
        }
        act();
        resolve();
      };
      if (this.isHeld) this.held.push(end);
      else end();
    });
  }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 8; i++) await Promise.resolve();
};

function setup(deps: Partial<VirtioBlkDeps> = {}, options: VirtioBenchOptions = {}) {
  const disk = new HeldDisk(64 * 512);
  disk.bytes.forEach((_, i, bytes) => (bytes[i] = (i >> 9) + i));
  const device = new VirtioBlk({ backend: disk, serial: "SER-1", queueSize: 8, ...deps });
  const bench = new VirtioBench(device, options).start();
  /** Offers a request; `data` is what it sends, `room` what it takes. */
  const offer = (type: number, sector: number, data: Uint8Array, room: number) => {
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, type, true);
    view.setUint32(8, sector, true);
    const status = bench.alloc(1);
    bench.memory.writeU8(status, 0xee);
    const readable = [{ gpa: bench.allocBytes(header), length: 16 }];
    if (data.length > 0) readable.push({ gpa: bench.allocBytes(data), length: data.length });
    const into = bench.alloc(room);
    const writable = room > 0 ? [{ gpa: into, length: room }] : [];
    const id = bench.queue(0).add(readable, [...writable, { gpa: status, length: 1 }]);
    bench.kick(0);
    return { id, status: () => bench.memory.readU8(status), data: () => bench.bytes(into, room) };
  };
  const request = async (type: number, sector: number, data: Uint8Array, room: number) => {
    const offered = offer(type, sector, data, room);
    await settle();
    const [used] = bench.queue(0).collect();
    expect(used?.id).toBe(offered.id);
    return { status: offered.status(), data: offered.data(), written: used?.written };
  };
  return { disk, device, bench, offer, request };
}
const none = new Uint8Array(0);
const range = (sector: number, sectors: number, flags = 0): Uint8Array => {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, sector, true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return bytes;
};

describe.each([
  ["split", {}],
  ["packed", { packed: true }],
  ["split, without EVENT_IDX", { eventIdx: false }],
] as const)("VirtioBlk on a %s queue", (_kind, options) => {
  it("reads what is on the disk", async () => {
    const { disk, request } = setup({}, options);
    expect(await request(IN, 3, none, 1024)).toEqual({
      status: OK,
      data: disk.bytes.slice(3 * 512, 5 * 512),
      written: 1025,
    });
  });

  it("writes, and flushes when told", async () => {
    const { disk, request } = setup({}, options);
    const data = Uint8Array.from({ length: 512 }, (_, i) => 255 - (i & 0xff));
    expect((await request(OUT, 7, data, 0)).status).toBe(OK);
    expect(disk.bytes.slice(7 * 512, 8 * 512)).toEqual(data);
    expect((await request(FLUSH, 0, none, 0)).status).toBe(OK);
    expect(disk.log).toEqual(["write 3584", "flush"]);
  });

  it("says who it is", async () => {
    const { request } = setup({}, options);
    const { status, data } = await request(GET_ID, 0, none, 20);
    expect([status, String.fromCharCode(...data).replace(/\0+$/, "")]).toEqual([OK, "SER-1"]);
  });
});

describe("VirtioBlk", () => {
  it.each([
    ["a read behind the end", IN, 63, none, 1024, IOERR],
    ["a read of half a sector", IN, 0, none, 100, IOERR],
    ["a write behind the end", OUT, 64, new Uint8Array(512), 0, IOERR],
    ["a request it does not know", 77, 0, none, 0, UNSUPP],
    ["a discard behind the end", DISCARD, 0, range(60, 8), 0, IOERR],
    ["a discard with flags", DISCARD, 0, range(0, 8, 1), 0, UNSUPP],
    ["a discard with half a range", DISCARD, 0, new Uint8Array(8), 0, IOERR],
  ])("answers %s with its status", async (_what, type, sector, data, room, status) => {
    const { disk, request } = setup();
    expect((await request(type, sector, data, room)).status).toBe(status);
    expect(disk.log).toEqual([]);
  });

  it("discards and writes zeroes, range by range", async () => {
    const { disk, request } = setup();
    const two = new Uint8Array(32);
    two.set(range(2, 1, 1));
    two.set(range(8, 2), 16);
    expect((await request(WRITE_ZEROES, 0, two, 0)).status).toBe(OK);
    expect((await request(DISCARD, 0, range(1, 4), 0)).status).toBe(OK);
    expect(disk.log).toEqual(["zeroes 1024 512 true", "zeroes 4096 1024 false", "discard 512 2048"]);
  });

  it("writes through where the driver turned the cache off", async () => {
    const { disk, bench, request } = setup();
    bench.endpoint.writeConfig(32, 1, 0);
    await request(OUT, 0, new Uint8Array(512), 0);
    expect(disk.log).toEqual(["write 0", "flush"]);
    disk.log.length = 0;
    await request(WRITE_ZEROES, 0, range(2, 1), 0);
    await request(DISCARD, 0, range(1, 1), 0);
    expect(disk.log).toEqual(["zeroes 1024 512 false", "flush", "discard 512 512"]);
  });

  it("reads and writes whole blocks at the start of blocks only", async () => {
    const { disk, request } = setup({ topology: { blockSize: 4096 } });
    const data = new Uint8Array(4096);
    expect((await request(OUT, 1, data, 0)).status).toBe(IOERR);
    expect((await request(IN, 9, none, 4096)).status).toBe(IOERR);
    expect((await request(DISCARD, 0, range(4, 8), 0)).status).toBe(IOERR);
    expect(disk.log).toEqual([]);
    expect((await request(OUT, 8, data, 0)).status).toBe(OK);
  });

  it("cannot be written where the disk cannot", async () => {
    const disk = new HeldDisk(512);
    disk.readOnly = true;
    const { bench, request } = setup({ backend: disk });
    expect(bench.endpoint.offered.has(5)).toBe(true); // VIRTIO_BLK_F_RO
    expect((await request(OUT, 0, new Uint8Array(512), 0)).status).toBe(IOERR);
    expect(disk.log).toEqual([]);
  });

  it("tells of another size", () => {
    const { disk, device, bench } = setup();
    const generation = bench.endpoint.configGeneration;
    Object.defineProperty(disk, "size", { value: 4096 });
    device.resized();
    expect(bench.endpoint.readConfig(0, 4)).toBe(8);
    expect([bench.configInterrupts, bench.endpoint.configGeneration]).toEqual([1, generation + 1]);
  });

  it("tells the driver the medium's geometry in blocks", () => {
    const topology = { blockSize: 1024, physicalBlockSize: 8192, minIoSize: 16_384, optIoSize: 65_536 };
    const { endpoint } = setup({ topology }).bench;
    // virtio 1.3 §5.2.4: blk_size at 20, physical_block_exp 24, alignment_offset 25, min_io_size 26, opt_io_size 28.
    const read = (offset: number, width: 1 | 2 | 4): number => endpoint.readConfig(offset, width);
    expect([read(20, 4), read(24, 1), read(25, 1), read(26, 2), read(28, 4)]).toEqual([1024, 3, 0, 16, 64]);
  });

  it("refuses requests of less than a block", async () => {
    const { request } = setup({ topology: { blockSize: 4096 } });
    expect((await request(IN, 0, none, 512)).status).toBe(IOERR);
    expect((await request(IN, 8, none, 4096)).status).toBe(OK);
  });

  it("gets another size from the monitor", async () => {
    const { disk, device, bench } = setup();
    let size = disk.size;
    Object.defineProperty(disk, "size", { get: () => size });
    await expect(device.monitorCommand(["resize", "1M"])).rejects.toThrow("cannot have another size");
    Object.assign(disk, {
      resize: (bytes: number) => {
        size = bytes;
        return Promise.resolve();
      },
    });
    expect(await device.monitorCommand(["resize", "1M"])).toBe("1048576 bytes");
    expect([bench.endpoint.readConfig(0, 4), bench.configInterrupts]).toEqual([2048, 1]);
    expect(await device.monitorCommand(["resize", "1024"])).toBe("1024 bytes");
    for (const words of [[], ["shrink"], ["resize"], ["resize", "0"], ["resize", "100"], ["resize", "1X"]]) {
      await expect(device.monitorCommand(words)).rejects.toMatchObject({ code: "NB_CONFIG" });
    }
    expect(size).toBe(1024);
  });

  it("holds requests back that come faster than they may, and loses none", async () => {
    const clock = new FakeClock();
    const limits = { rates: { operationsPerSecond: 1000, burstMs: 2 }, clock };
    const { disk, bench, offer } = setup({ limits, queueSize: 64 });
    const reads = Array.from({ length: 8 }, (_, sector) => offer(IN, sector, none, 512));
    await settle();
    expect(disk.log).toEqual(["read 0", "read 512"]);
    for (let ms = 1; ms <= 6; ms++) {
      clock.advanceTo(ms * 1e6);
      expect(disk.log.length).toBe(2 + ms);
    }
    await settle();
    expect(reads.map((read) => read.status())).toEqual(reads.map(() => OK));
    expect(disk.log).toEqual(reads.map((_, sector) => `read ${sector * 512}`));
    expect(bench.endpoint.stats()["throttled"]).toBeGreaterThan(0);
  });

  it("reports the host's errors, or does not, as configured", async () => {
    for (const [onError, status] of [
      ["report", IOERR],
      ["ignore", OK],
    ] as const) {
      const { disk, request } = setup({ onError });
      disk.failure = new NorthbridgeError("NB_HOST", "disk.img: write: its disk is full");
      expect((await request(OUT, 0, new Uint8Array(512), 0)).status).toBe(status);
    }
  });

  it("stops at the host's error and tries again on resume", async () => {
    const reasons: string[] = [];
    const { disk, bench, offer } = setup({ onError: "stop", stop: (reason) => reasons.push(reason) });
    disk.failure = new NorthbridgeError("NB_HOST", "disk.img: write: its disk is full");
    const write = offer(OUT, 1, new Uint8Array(512), 0);
    await settle();
    expect(reasons).toEqual(["disk.img: write: its disk is full"]);
    expect([write.status(), bench.queue(0).collect()]).toEqual([0xee, []]);
    disk.failure = undefined;
    bench.endpoint.resume();
    await settle();
    expect(write.status()).toBe(OK);
    expect(bench.queue(0).collect()).toEqual([{ id: write.id, written: 1 }]);
  });

  it("completes a reset only when the host is done with guest memory", async () => {
    const { disk, bench, offer } = setup();
    disk.isHeld = true;
    const read = offer(IN, 0, none, 512);
    bench.endpoint.setStatus(0);
    expect(bench.endpoint.status).not.toBe(0);
    for (const end of disk.held) end();
    await settle();
    expect(bench.endpoint.status).toBe(0);
    expect(read.status()).toBe(0xee); // nobody hears of a request of before
    expect(bench.interrupts[0]).toBe(0);
  });

  it.each([
    ["a driver that resets meanwhile", true, undefined],
    ["one whose read fails", false, new Error("EIO")],
  ])("says that it may have written a buffer: of %s", async (_whose, resets, failure) => {
    const memory = new FakeMemory(1 << 20);
    const { disk, bench, offer } = setup({}, { memory });
    disk.isHeld = true;
    offer(IN, 0, none, 512);
    if (resets) bench.endpoint.setStatus(0);
    memory.writes.length = 0;
    disk.failure = failure;
    for (const end of disk.held) end();
    await settle();
    expect(memory.writes.map(({ length }) => length)).toContain(512);
  });

  it("does again after a restore what was in flight at the save", async () => {
    const { disk, bench, offer } = setup();
    disk.isHeld = true;
    const reads = [offer(IN, 0, none, 512), offer(IN, 5, none, 512)];
    const state = JSON.parse(JSON.stringify(bench.endpoint.save())) as ReturnType<typeof bench.endpoint.save>;
    const disk2 = new HeldDisk(64 * 512);
    disk2.bytes.set(disk.bytes);
    const twin = new VirtioBench(new VirtioBlk({ backend: disk2, serial: "SER-1", queueSize: 8 }), {
      memory: bench.memory,
    });
    twin.endpoint.restore(state);
    expect(twin.interrupts[0]).toBe(0);
    twin.endpoint.resume();
    await settle();
    expect(disk2.log).toEqual(["read 0", "read 2560"]);
    expect(reads.map((read) => read.status())).toEqual([OK, OK]);
    expect(
      bench
        .queue(0)
        .collect()
        .map(({ id }) => id),
    ).toEqual(reads.map(({ id }) => id));
    expect(twin.interrupts[0]).toBe(1);
  });

  it("holds a disk's requests together: any mix, ended in any order, is as if done at once", async () => {
    const op = fc.record({
      write: fc.boolean(),
      sector: fc.nat(62),
      sectors: fc.constantFrom(1, 2),
      fill: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 1, maxLength: 12 }), fc.boolean(), async (ops, packed) => {
        const { disk, request } = setup({}, { packed });
        const model = disk.bytes.slice();
        for (const { write, sector, sectors, fill } of ops) {
          const length = sectors * 512;
          if (write) model.fill(fill, sector * 512, sector * 512 + length);
          const done = await request(
            write ? OUT : IN,
            sector,
            write ? new Uint8Array(length).fill(fill) : none,
            write ? 0 : length,
          );
          expect(done.status).toBe(OK);
          if (!write) expect(done.data).toEqual(model.slice(sector * 512, sector * 512 + length));
        }
        expect(disk.bytes).toEqual(model);
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    ["without a header", [8], [1]],
    ["without a status byte", [16], []],
  ])("needs a reset after a request %s", (_what, readable, writable) => {
    const { bench } = setup();
    const segments = (lengths: readonly number[]) =>
      lengths.map((length) => ({ gpa: bench.alloc(length), length }));
    bench.queue(0).add(segments(readable), segments(writable));
    bench.kick(0);
    expect(bench.endpoint.status & 0x40).toBe(0x40);
    expect(bench.endpoint.stats()["needsReset.malformedRequest"]).toBe(1);
    expect(bench.configInterrupts).toBe(1);
  });
});
