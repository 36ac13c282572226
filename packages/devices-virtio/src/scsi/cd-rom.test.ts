import { describe, expect, it } from "vitest";
import {
  be16,
  be32,
  good,
  INVALID_FIELD,
  INVALID_OPERATION,
  OUT_OF_RANGE,
  pattern,
  ScsiDriver,
  type ScsiEnd,
  TestDisk,
} from "../../test/scsi-driver.ts";

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
