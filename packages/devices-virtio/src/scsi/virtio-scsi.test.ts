import { NorthbridgeError } from "@northbridge/sdk";
import { FakeMemory } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ScsiCommand, ScsiDriver, type ScsiEnd, TestDisk } from "../../test/scsi-driver.ts";

const [INVALID_OPERATION, OUT_OF_RANGE, INVALID_FIELD] = [
  [5, 0x20, 0],
  [5, 0x21, 0],
  [5, 0x24, 0],
];
const be16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
const be64 = (value: number): number[] => [...be32(Math.floor(value / 2 ** 32)), ...be32(value >>> 0)];
const text = (bytes: readonly number[]): string => String.fromCharCode(...bytes);
const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** A disk whose power-on unit attention has been heard. */
async function disk(backend = new TestDisk(), options: ConstructorParameters<typeof ScsiDriver>[1] = {}) {
  const driver = new ScsiDriver([{ type: "disk", backend, serial: "SER1" }], options);
  expect((await driver.run({ cdb: [0] })).sense).toEqual([6, 0x29, 0]); // SPC-4 §5.14
  return { driver, backend };
}

async function cdRom(backend: TestDisk | undefined = new TestDisk(40 * 2048, true)) {
  const opened: string[] = [];
  const driver = new ScsiDriver([{ type: "cdRom", backend, serial: "CD1" }], {
    media: {
      open: (path) => {
        opened.push(path);
        return Promise.resolve(new TestDisk(10 * 2048, true));
      },
      close: (medium) => medium.close(),
    },
  });
  await driver.run({ cdb: [3, 0, 0, 0, 18], room: 18 }); // REQUEST SENSE takes the unit attention
  return { driver, opened };
}

const good = (data: readonly number[] = [], residual = 0): ScsiEnd => ({
  response: 0,
  status: 0,
  sense: undefined,
  residual,
  data: [...data],
});

describe("VirtioScsi with a disk", () => {
  it("says what it is, cut to the allocation length", async () => {
    const { driver } = await disk();
    const { data, residual } = await driver.run({ cdb: [0x12, 0, 0, 0, 36], room: 255 });
    expect([data[0], data[1], data[2], data[3]! & 0x0f, data[4]]).toEqual([0, 0, 6, 2, 31]);
    expect([text(data.slice(8, 16)), text(data.slice(16, 32)).trim(), residual]).toEqual([
      "NBRIDGE ",
      "disk",
      219,
    ]);
    expect((await driver.run({ cdb: [0x12, 0, 0, 0, 5], room: 255 })).data).toEqual(data.slice(0, 5));
    expect((await driver.run({ cdb: [0x12, 0, 0x80, 0, 36], room: 255 })).sense).toEqual(INVALID_FIELD);
  });

  it("has the vital product data that it lists (SPC-4 §7.8)", async () => {
    const { driver } = await disk();
    const page = async (code: number): Promise<number[]> => {
      const { data } = await driver.run({ cdb: [0x12, 1, code, 1, 0], room: 256 });
      expect([data[0], data[1], data.length]).toEqual([0, code, 4 + data[2]! * 256 + data[3]!]);
      return data.slice(4);
    };
    const pages = await page(0);
    expect(pages).toEqual([0, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    expect(text(await page(0x80))).toBe("SER1");
    const ids = await page(0x83);
    expect([ids[0], ids[1], ids[3], text(ids.slice(4, 16))]).toEqual([2, 1, 12, "NBRIDGE SER1"]);
    expect([ids[16], ids[17], ids[19], ids[20]! >> 4]).toEqual([1, 3, 8, 3]); // NAA, locally assigned
    expect(await page(0xb0)).toHaveLength(60);
    expect((await page(0xb0)).slice(16, 20)).toEqual(be32(0x40_0000)); // most blocks of an UNMAP
    expect((await page(0xb1)).slice(0, 2)).toEqual([0, 1]);
    expect((await page(0xb2))[1]).toBe(0xe0); // UNMAP, WRITE SAME (16) and (10)
    expect((await driver.run({ cdb: [0x12, 1, 0x99, 1, 0], room: 256 })).sense).toEqual(INVALID_FIELD);
  });

  it("lists its one unit, and says that there is no other", async () => {
    const { driver } = await disk();
    const report = { cdb: [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0], room: 256 };
    expect((await driver.run(report)).data).toEqual([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const lun = [1, 0, 0x40, 3];
    expect((await driver.run({ ...report, lun })).data).toHaveLength(16);
    expect((await driver.run({ cdb: [0x12, 0, 0, 0, 36], room: 36, lun })).data[0]).toBe(0x7f);
    expect((await driver.run({ cdb: [0], lun })).sense).toEqual([5, 0x25, 0]);
    expect((await driver.run({ cdb: [3, 0, 0, 0, 18], room: 18, lun })).data[12]).toBe(0x25);
    expect(await driver.run({ cdb: [0], lun: [1, 1] })).toMatchObject({ response: 3 }); // BAD_TARGET
    expect(await driver.run({ cdb: [0], lun: [0, 0] })).toMatchObject({ response: 3 });
  });

  it("reads and writes by every CDB", async () => {
    const { driver, backend } = await disk();
    const extents: [name: string, write: number[], read: number[]][] = [
      ["6", [0x0a, 0, 0, 5, 2], [0x08, 0, 0, 5, 2]],
      ["10", [0x2a, 0, ...be32(7), 0, ...be16(2)], [0x28, 0, ...be32(7), 0, ...be16(2)]],
      ["12", [0xaa, 0, ...be32(9), ...be32(2)], [0xa8, 0, ...be32(9), ...be32(2)]],
      ["16", [0x8a, 0, ...be64(11), ...be32(2)], [0x88, 0, ...be64(11), ...be32(2)]],
    ];
    for (const [name, write, read] of extents) {
      const data = pattern(1024, name.length + Number(name));
      expect(await driver.run({ cdb: write, out: data }), name).toEqual(good());
      expect(await driver.run({ cdb: read, room: 1024 }), name).toEqual(good([...data]));
    }
    expect(backend.done).toEqual([]);
    await driver.run({ cdb: [0x2a, 0x08, ...be32(0), 0, ...be16(1)], out: pattern(512) });
    expect(backend.done).toEqual(["flush"]); // FUA
    expect(await driver.run({ cdb: [0x08, 0, 0, 0, 0], room: 256 * 512 })).toMatchObject({
      status: 0,
      residual: 0,
    });
  });

  it("refuses what is out of range, and leaves alone what is too long for its buffers", async () => {
    const { driver, backend } = await disk();
    const blocks = backend.size / 512;
    expect((await driver.run({ cdb: [0x28, 0, ...be32(blocks - 1), 0, 0, 2], room: 1024 })).sense).toEqual(
      OUT_OF_RANGE,
    );
    expect((await driver.run({ cdb: [0x88, 0, ...be64(2 ** 60), ...be32(1)], room: 512 })).sense).toEqual(
      OUT_OF_RANGE,
    );
    expect(await driver.run({ cdb: [0x28, 0, ...be32(0), 0, 0, 2], room: 1023 })).toEqual({
      ...good([], 1023),
      response: 1, // OVERRUN
    });
    expect(await driver.run({ cdb: [0x2a, 0, ...be32(0), 0, 0, 2], out: pattern(512) })).toMatchObject({
      response: 1,
    });
    expect(backend.bytes.every((byte) => byte === 0)).toBe(true);
    expect(await driver.run({ cdb: [0x28, 0, ...be32(0), 0, 0, 0] })).toEqual(good());
    expect((await driver.run({ cdb: [0xff] })).sense).toEqual(INVALID_OPERATION);
  });

  it("says how large it is, and that it can unmap", async () => {
    const { driver } = await disk();
    expect((await driver.run({ cdb: [0x25], room: 8 })).data).toEqual([...be32(2047), ...be32(512)]);
    const { data } = await driver.run({ cdb: [0x9e, 0x10, ...be64(0), ...be32(32)], room: 32 });
    expect([data.slice(0, 12), data[14]]).toEqual([[...be64(2047), ...be32(512)], 0x80]);
  });

  it("flushes, unmaps and writes the same block many times", async () => {
    const { driver, backend } = await disk();
    expect(await driver.run({ cdb: [0x35] })).toEqual(good());
    expect(await driver.run({ cdb: [0x91] })).toEqual(good());
    const ranges = [
      ...be16(38),
      ...be16(32),
      ...be32(0),
      ...be64(4),
      ...be32(2),
      ...be32(0),
      ...be64(9),
      ...be32(1),
      ...be32(0),
    ];
    expect(
      await driver.run({ cdb: [0x42, 0, 0, 0, 0, 0, 0, ...be16(40)], out: Uint8Array.from(ranges) }),
    ).toEqual(good());
    const zero = { cdb: [0x93, 0x08, ...be64(20), ...be32(100)], out: new Uint8Array(512) };
    expect(await driver.run(zero)).toEqual(good());
    expect(await driver.run({ cdb: [0x93, 0x01, ...be64(20), ...be32(1)] })).toEqual(good());
    const block = pattern(512, 9);
    expect(await driver.run({ cdb: [0x41, 0, ...be32(30), 0, ...be16(300)], out: block })).toEqual(good());
    for (const at of [30, 200, 329]) expect(backend.bytes.subarray(at * 512, at * 512 + 512)).toEqual(block);
    expect([backend.bytes[330 * 512], backend.bytes[29 * 512]]).toEqual([0, 0]);
    expect(backend.done).toEqual([
      "flush",
      "flush",
      "discard 2048 1024",
      "discard 4608 512",
      "zero 10240 51200 true",
      "zero 10240 512 false",
    ]);
    const beyond = [...be16(22), ...be16(16), ...be32(0), ...be64(2047), ...be32(2), ...be32(0)];
    const unmap = { cdb: [0x42, 0, 0, 0, 0, 0, 0, ...be16(24)], out: Uint8Array.from(beyond) };
    expect((await driver.run(unmap)).sense).toEqual(OUT_OF_RANGE);
    expect((await driver.run({ ...unmap, cdb: [0x42, 0, 0, 0, 0, 0, 0, 0, 4] })).sense).toEqual([5, 0x1a, 0]);
  });

  it("unmaps nothing where one of the ranges cannot be", async () => {
    const { driver, backend } = await disk();
    const range = (lba: number, blocks: number): number[] => [...be64(lba), ...be32(blocks), ...be32(0)];
    for (const [second, sense] of [
      [range(2047, 2), OUT_OF_RANGE],
      [range(0, 0x7fff_ffff), OUT_OF_RANGE],
    ] as const) {
      const list = Uint8Array.from([...be16(38), ...be16(32), ...be32(0), ...range(0, 8), ...second]);
      expect((await driver.run({ cdb: [0x42, 0, 0, 0, 0, 0, 0, ...be16(40)], out: list })).sense).toEqual(
        sense,
      );
    }
    await driver.bench.endpoint.pause();
    expect(backend.done).toEqual([]);
  });

  it("has mode pages: a write cache, and protection where it is", async () => {
    const { driver } = await disk();
    const six = (await driver.run({ cdb: [0x1a, 0, 0x3f, 0, 255], room: 255 })).data;
    expect([six[0], six[2], six[3], six.slice(4, 12)]).toEqual([
      six.length - 1,
      0x10,
      8,
      [...be32(2048), ...be32(512)],
    ]);
    expect([six[12], six[13], six[14]! & 4]).toEqual([8, 18, 4]); // WCE
    const ten = (await driver.run({ cdb: [0x5a, 0x08, 0x0a, 0, 0, 0, 0, 0, 255], room: 255 })).data;
    expect([ten.slice(0, 8), ten[8], ten[9]]).toEqual([[...be16(18), 0, 0x10, 0, 0, 0, 0], 0x0a, 10]);
    const protectedDisk = await disk(new TestDisk(1 << 20, true));
    expect((await protectedDisk.driver.run({ cdb: [0x1a, 8, 8, 0, 255], room: 255 })).data[2]).toBe(0x90);
    const write = { cdb: [0x2a, 0, ...be32(0), 0, 0, 1], out: pattern(512) };
    expect((await protectedDisk.driver.run(write)).sense).toEqual([7, 0x27, 0]);
  });

  it("reports what the host could not do", async () => {
    const { driver, backend } = await disk();
    const read = { cdb: [0x28, 0, ...be32(0), 0, 0, 1], room: 512 };
    const write = { cdb: [0x2a, 0, ...be32(0), 0, 0, 1], out: pattern(512) };
    backend.error = new NorthbridgeError("NB_HOST", "EIO");
    expect(await driver.run(read)).toMatchObject({ status: 2, sense: [3, 0x11, 0], residual: 512, data: [] });
    expect((await driver.run(write)).sense).toEqual([3, 0x0c, 0]);
    const cause = Object.assign(new Error("no space"), { code: "ENOSPC" });
    backend.error = new NorthbridgeError("NB_HOST", "disk.img: no space", { cause });
    expect((await driver.run(write)).sense).toEqual([7, 0x27, 7]);
  });

  it("stops the machine where it is told to, and tries again", async () => {
    const reasons: string[] = [];
    const { driver, backend } = await disk(new TestDisk(), {
      onError: "stop",
      stop: (why) => reasons.push(why),
    });
    backend.error = new NorthbridgeError("NB_HOST", "disk.img: no space");
    const ended = driver.submit({ cdb: [0x2a, 0, ...be32(3), 0, 0, 1], out: pattern(512) });
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect([ended(), reasons]).toEqual([undefined, ["disk.img: no space"]]);
    await driver.bench.endpoint.pause();
    backend.error = undefined;
    driver.bench.endpoint.resume();
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect(ended()).toEqual(good());
    expect(backend.bytes.subarray(1536, 2048)).toEqual(pattern(512));
  });

  it("tells of another size (§5.6.6.3)", async () => {
    const { driver } = await disk();
    const gpa = driver.bench.alloc(16);
    expect(await driver.device.monitorCommand(["resize", "0", "2M"])).toBe("2097152 bytes");
    driver.bench.queue(1).add([], [{ gpa, length: 16 }]);
    driver.bench.endpoint.notify(1);
    expect([...driver.bench.bytes(gpa, 16)]).toEqual([3, 0, 0, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, 0x2a, 9, 0, 0]);
    expect((await driver.run({ cdb: [0] })).sense).toEqual([6, 0x2a, 9]);
    expect((await driver.run({ cdb: [0x25], room: 8 })).data.slice(0, 4)).toEqual(be32(4095));
    await expect(driver.device.monitorCommand(["resize", "0", "100"])).rejects.toThrow(
      "a multiple of 512, found 100",
    );
    await expect(driver.device.monitorCommand(["resize", "7", "1M"])).rejects.toThrow(
      "the number of a disk, found 7",
    );
    await expect(driver.device.monitorCommand(["resize", "0"])).rejects.toThrow("found nothing");
  });

  it("reads what was last written, and writes nothing else", async () => {
    const step = fc.record({ at: fc.nat(40), blocks: fc.integer({ min: 1, max: 5 }), seed: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const { driver, backend } = await disk(new TestDisk(32_768));
        const model = new Uint8Array(backend.size);
        for (const { at, blocks, seed } of steps) {
          const data = pattern(blocks * 512, seed);
          model.set(data, at * 512);
          await driver.run({ cdb: [0x2a, 0, ...be32(at), 0, 0, blocks], out: data });
          const { data: got } = await driver.run({
            cdb: [0x88, 0, ...be64(at), ...be32(blocks)],
            room: blocks * 512,
          });
          expect(got).toEqual([...data]);
        }
        expect(backend.bytes.findIndex((byte, i) => byte !== model[i])).toBe(-1);
      }),
      { numRuns: 20 },
    );
  });
});

describe("VirtioScsi's task management (§5.6.6.2)", () => {
  const write = (id: number): ScsiCommand => ({
    cdb: [0x2a, 0, ...be32(id), 0, 0, 1],
    out: pattern(512),
    id,
  });
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const [ABORT_TASK, ABORT_TASK_SET, NEXUS_RESET, RESET, QUERY_TASK, QUERY_TASK_SET] = [0, 1, 4, 5, 6, 7];

  it("ends an aborted command when the host is done with it, and then says so", async () => {
    const { driver, backend } = await disk();
    backend.hold();
    const [first, second] = [driver.submit(write(1)), driver.submit(write(2))];
    expect([driver.manage(QUERY_TASK, 1)(), driver.manage(QUERY_TASK, 9)()]).toEqual([10, 0]);
    const abort = driver.manage(ABORT_TASK, 1);
    await settle();
    expect([abort(), first()]).toEqual([0xee, undefined]);
    backend.release();
    await settle();
    expect([abort(), first()?.response, second()?.response]).toEqual([0, 2, 0]);
    expect(driver.manage(QUERY_TASK_SET)()).toBe(0);
  });

  it.each([ABORT_TASK_SET, NEXUS_RESET, RESET])(
    "ends all commands of a unit (function %i)",
    async (subtype) => {
      const { driver, backend } = await disk();
      backend.hold();
      const commands = [1, 2, 3].map((id) => driver.submit(write(id)));
      const done = driver.manage(subtype);
      backend.release();
      await settle();
      const response = subtype === ABORT_TASK_SET ? 2 : 4; // §5.6.6.1: S_ABORTED, S_RESET
      expect([done(), ...commands.map((end) => end()?.response)]).toEqual([
        0,
        ...[1, 2, 3].map(() => response),
      ]);
      expect((await driver.run({ cdb: [0] })).sense).toEqual(
        subtype === ABORT_TASK_SET ? undefined : [6, 0x29, 3],
      );
    },
  );

  it("refuses what it does not know", async () => {
    const { driver } = await disk();
    expect(driver.manage(99)()).toBe(11);
    expect(driver.manage(ABORT_TASK, 0, [1, 7])()).toBe(3);
    expect(driver.manage(ABORT_TASK, 0, [1, 0, 0x40, 1])()).toBe(12);
  });

  it("saves nothing half-done: a pause waits for the host, and for what waits for that", async () => {
    const { driver, backend } = await disk();
    backend.hold();
    const command = driver.submit(write(1));
    const abort = driver.manage(ABORT_TASK, 1);
    const paused = driver.bench.endpoint.pause();
    backend.release();
    await paused;
    expect([command()?.response, abort()]).toEqual([2, 0]);
    expect(driver.bench.endpoint.save().queues.every(({ queue }) => queue?.inFlight.length === 0)).toBe(true);
  });

  it("takes the sizes of its fields in one piece or byte by byte, and none that are too large (§5.6.4)", async () => {
    const { endpoint } = (await disk()).driver.bench;
    const sizes = (): number[] => [endpoint.readConfig(20, 4), endpoint.readConfig(24, 4)];
    endpoint.writeConfig(20, 4, 252);
    endpoint.writeConfig(24, 1, 16);
    expect(sizes()).toEqual([252, 16]);
    endpoint.writeConfig(20, 4, 100_000);
    endpoint.writeConfig(25, 1, 1);
    expect(sizes()).toEqual([252, 16]);
  });

  it("does not reset before the host is done, and says what the host has written", async () => {
    const memory = new FakeMemory(1 << 20);
    const { driver, backend } = await disk(new TestDisk(), { memory });
    backend.hold();
    driver.submit(write(1));
    driver.submit({ cdb: [0x28, 0, ...be32(0), 0, 0, 1], room: 512 });
    memory.writes.length = 0;
    driver.bench.endpoint.setStatus(0);
    await settle();
    expect(driver.bench.endpoint.status).not.toBe(0);
    backend.release();
    await settle();
    expect(driver.bench.endpoint.status).toBe(0);
    expect(memory.writes.map(({ length }) => length)).toContain(512);
  });
});

describe("VirtioScsi with a CD-ROM drive", () => {
  const ready = { cdb: [0] };

  it("is a removable drive with blocks of 2048 bytes", async () => {
    const { driver } = await cdRom();
    const { data } = await driver.run({ cdb: [0x12, 0, 0, 0, 36], room: 36 });
    expect([data[0], data[1]]).toEqual([5, 0x80]);
    expect((await driver.run({ cdb: [0x25], room: 8 })).data).toEqual([...be32(39), ...be32(2048)]);
    expect((await driver.run({ cdb: [0x28, 0, ...be32(39), 0, 0, 1], room: 2048 })).data).toHaveLength(2048);
    expect((await driver.run({ cdb: [0x28, 0, ...be32(40), 0, 0, 1], room: 2048 })).sense).toEqual(
      OUT_OF_RANGE,
    );
    expect((await driver.run({ cdb: [0x2a, 0, ...be32(0), 0, 0, 1], out: pattern(2048) })).sense).toEqual(
      INVALID_OPERATION,
    );
  });

  it("has one track of data (MMC-6 §6.25)", async () => {
    const { driver } = await cdRom();
    const toc = (flags: number, format: number, first: number): Promise<ScsiEnd> =>
      driver.run({ cdb: [0x43, flags, format, 0, 0, 0, first, 0, 100], room: 100 });
    expect((await toc(0, 0, 0)).data).toEqual([
      0,
      18,
      1,
      1,
      0,
      0x14,
      1,
      0,
      ...be32(0),
      0,
      0x14,
      0xaa,
      0,
      ...be32(40),
    ]);
    expect((await toc(2, 0, 0xaa)).data.slice(8)).toEqual([0, 0, 2, 40]); // 190 frames
    expect((await toc(0, 1, 0)).data).toEqual([0, 10, 1, 1, 0, 0x14, 1, 0, ...be32(0)]);
    expect((await toc(0, 5, 0)).sense).toEqual(INVALID_FIELD);
  });

  it("lists what it can do (MMC-6 §6.5)", async () => {
    const { driver } = await cdRom();
    const { data } = await driver.run({ cdb: [0x46, 0, 0, 0, 0, 0, 0, 0, 100], room: 100 });
    expect([data.slice(0, 4), data.slice(6, 8)]).toEqual([be32(data.length - 4), [0, 8]]);
    const codes: number[] = [];
    for (let at = 8; at < data.length; at += 4 + data[at + 3]!) codes.push(data[at]! * 256 + data[at + 1]!);
    expect(codes).toEqual([0, 1, 3, 0x10, 0x1e]);
  });

  it("loses its medium, says so, and gets another one", async () => {
    const { driver, opened } = await cdRom();
    const event = async (): Promise<number[]> =>
      [...(await driver.run({ cdb: [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], room: 8 })).data].slice(4, 6);
    expect(await event()).toEqual([0, 2]);
    expect(await driver.device.monitorCommand(["eject", "0"])).toBe("ejected");
    expect((await driver.run(ready)).sense).toEqual([2, 0x3a, 2]);
    expect([await event(), await event()]).toEqual([
      [3, 1],
      [0, 1],
    ]);
    expect(await driver.device.monitorCommand(["insert", "0", "other.iso"])).toBe("inserted");
    expect([opened, await event()]).toEqual([["other.iso"], [2, 2]]);
    expect((await driver.run(ready)).sense).toEqual([6, 0x28, 0]);
    expect(await driver.run(ready)).toEqual(good());
    expect((await driver.run({ cdb: [0x25], room: 8 })).data.slice(0, 4)).toEqual(be32(9));
  });

  it("keeps a medium that the guest has locked in, and asks for it", async () => {
    const { driver } = await cdRom();
    await driver.run({ cdb: [0x1e, 0, 0, 0, 1] });
    expect((await driver.run({ cdb: [0x1b, 0, 0, 0, 2] })).sense).toEqual([5, 0x53, 2]);
    expect(await driver.device.monitorCommand(["eject", "0"])).toMatch(/has locked the drive/);
    expect(await driver.run(ready)).toEqual(good());
    expect((await driver.run({ cdb: [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], room: 8 })).data[4]).toBe(1); // eject request
    await driver.run({ cdb: [0x1e, 0, 0, 0, 0] });
    expect(await driver.run({ cdb: [0x1b, 0, 0, 0, 2] })).toEqual(good());
    expect((await driver.run(ready)).sense).toEqual([2, 0x3a, 2]);
    expect(await driver.run({ cdb: [0x1b, 0, 0, 0, 3] })).toEqual(good()); // the tray closes again
    expect((await driver.run(ready)).sense).toEqual([6, 0x28, 0]);
  });

  it("keeps a medium that is taken out until what reads it has ended", async () => {
    const log: string[] = [];
    const backend = new TestDisk(40 * 2048, true);
    backend.close = () => {
      log.push("closed");
      return Promise.resolve();
    };
    const driver = new ScsiDriver([{ type: "cdRom", backend, serial: "CD1" }], {
      media: { open: () => Promise.reject(new Error("none")), close: (medium) => medium.close() },
    });
    await driver.run(ready);
    backend.hold();
    const read = driver.submit({ cdb: [0x28, 0, ...be32(1), 0, ...be16(1)], room: 2048 });
    const ejected = driver.device.monitorCommand(["eject", "0"]);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    expect([log, read()]).toEqual([[], undefined]);
    backend.release();
    expect(await ejected).toBe("ejected");
    expect([log, read()?.status]).toEqual([["closed"], 0]);
  });

  it("goes on without a medium that was put in by hand, and says so", async () => {
    const { driver } = await cdRom();
    await driver.device.monitorCommand(["insert", "0", "other.iso"]);
    expect((await driver.run(ready)).sense).toEqual([6, 0x28, 0]);
    await driver.run({ cdb: [0x1e, 0, 0, 0, 1] });
    const state = JSON.parse(JSON.stringify(driver.device.save())) as unknown;
    const twin = await cdRom();
    twin.driver.device.restore(state);
    expect((await twin.driver.run(ready)).sense).toEqual([6, 0x28, 0]);
    expect(await twin.driver.run(ready)).toEqual(good());
    expect((await twin.driver.run({ cdb: [0x25], room: 8 })).data.slice(0, 4)).toEqual(be32(39)); // the config's
    const empty = new ScsiDriver([{ type: "cdRom", serial: "CD1" }]);
    empty.device.restore(state);
    expect((await empty.run(ready)).sense).toEqual([6, 0x28, 0]);
    expect((await empty.run(ready)).sense).toEqual([2, 0x3a, 0]);
  });

  it("may be empty", async () => {
    const { driver } = await cdRom(new TestDisk(0, true));
    expect(await driver.run(ready)).toEqual(good());
    const empty = new ScsiDriver([{ type: "cdRom", serial: "X" }]);
    await empty.run(ready);
    expect((await empty.run(ready)).sense).toEqual([2, 0x3a, 0]);
  });

  it("is after a restore what it was before", async () => {
    const { driver } = await cdRom();
    await driver.run({ cdb: [0x1e, 0, 0, 0, 1] });
    await driver.device.monitorCommand(["eject", "0"]);
    const state = driver.device.save();
    const twin = await cdRom();
    twin.driver.device.restore(JSON.parse(JSON.stringify(state)));
    expect(twin.driver.device.save()).toEqual(state);
    expect(() => {
      driver.device.restore({ ...state, units: [{ ...state.units[0]!, size: 99 }] });
    }).toThrow(/99 bytes/);
  });

  it.each([
    [["eject"], /eject TARGET/],
    [["eject", "7"], /CD-ROM drive/],
    [["insert", "0"], /insert TARGET PATH/],
    [["shake", "0"], /eject TARGET/],
  ])("refuses the command %j", async (words, message) => {
    const { driver } = await cdRom();
    await expect(driver.device.monitorCommand(words)).rejects.toThrow(message);
  });
});
