import { NorthbridgeError } from "@northbridge/sdk";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  be16,
  be32,
  be64,
  good,
  INVALID_FIELD,
  INVALID_OPERATION,
  OUT_OF_RANGE,
  pattern,
  startedDisk,
  TestDisk,
} from "../../test/scsi-driver.ts";

const text = (bytes: readonly number[]): string => String.fromCharCode(...bytes);

describe("VirtioScsi with a disk", () => {
  it("says what it is, cut to the allocation length", async () => {
    const { driver } = await startedDisk();
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
    const { driver } = await startedDisk();
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
    const { driver } = await startedDisk();
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
    const { driver, backend } = await startedDisk();
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
    const { driver, backend } = await startedDisk();
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
    const { driver } = await startedDisk();
    expect((await driver.run({ cdb: [0x25], room: 8 })).data).toEqual([...be32(2047), ...be32(512)]);
    const { data } = await driver.run({ cdb: [0x9e, 0x10, ...be64(0), ...be32(32)], room: 32 });
    expect([data.slice(0, 12), data[14]]).toEqual([[...be64(2047), ...be32(512)], 0x80]);
  });

  it("flushes, unmaps and writes the same block many times", async () => {
    const { driver, backend } = await startedDisk();
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
    const { driver, backend } = await startedDisk();
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
    const { driver } = await startedDisk();
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
    const protectedDisk = await startedDisk(new TestDisk(1 << 20, true));
    expect((await protectedDisk.driver.run({ cdb: [0x1a, 8, 8, 0, 255], room: 255 })).data[2]).toBe(0x90);
    const write = { cdb: [0x2a, 0, ...be32(0), 0, 0, 1], out: pattern(512) };
    expect((await protectedDisk.driver.run(write)).sense).toEqual([7, 0x27, 0]);
  });

  it("reports what the host could not do", async () => {
    const { driver, backend } = await startedDisk();
    const read = { cdb: [0x28, 0, ...be32(0), 0, 0, 1], room: 512 };
    const write = { cdb: [0x2a, 0, ...be32(0), 0, 0, 1], out: pattern(512) };
    backend.error = new NorthbridgeError("NB_HOST", "EIO");
    expect(await driver.run(read)).toMatchObject({ status: 2, sense: [3, 0x11, 0], residual: 512, data: [] });
    expect((await driver.run(write)).sense).toEqual([3, 0x0c, 0]);
    const cause = Object.assign(new Error("no space"), { code: "ENOSPC" });
    backend.error = new NorthbridgeError("NB_HOST", "disk.img: no space", { cause });
    expect((await driver.run(write)).sense).toEqual([7, 0x27, 7]);
  });

  it("says that it was done what the host could not do, where it is told to", async () => {
    const { driver, backend } = await startedDisk(new TestDisk(), { onError: "ignore" });
    backend.error = new NorthbridgeError("NB_HOST", "EIO");
    const write = { cdb: [0x2a, 0, ...be32(3), 0, 0, 1], out: pattern(512) };
    expect(await driver.run(write)).toEqual(good());
    const read = { cdb: [0x28, 0, ...be32(3), 0, 0, 1], room: 512 };
    expect(await driver.run(read)).toMatchObject({ status: 0, sense: undefined, residual: 0 });
    backend.error = undefined;
    expect(backend.bytes.subarray(1536, 2048)).toEqual(new Uint8Array(512));
    expect((await driver.run(write)).status).toBe(0);
    expect(backend.bytes.subarray(1536, 2048)).toEqual(pattern(512));
    expect(driver.device.stats()["errors"]).toBe(2);
  });

  it("stops the machine where it is told to, and tries again", async () => {
    const reasons: string[] = [];
    const { driver, backend } = await startedDisk(new TestDisk(), {
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
    const { driver } = await startedDisk();
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
        const { driver, backend } = await startedDisk(new TestDisk(32_768));
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
