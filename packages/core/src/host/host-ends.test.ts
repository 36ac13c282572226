import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BlockBackend } from "../contracts/index.ts";
import { VirtualClock } from "../clock/virtual-clock.ts";
import { HostEndKinds } from "../composition/host-end-kinds.ts";
import { HostEndOpener } from "../composition/host-end-opener.ts";
import { loadMachineConfig } from "../config/config-file.ts";
import { createEntropy } from "./entropy.ts";
import { FaultyBlock } from "./faulty-block.ts";
import { FileBlock } from "./file-block.ts";
import { RingBufferBackend } from "./ring-buffer.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "host-ends-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

const console = new RingBufferBackend();
const clock = new VirtualClock();
const ends = new HostEndOpener(new HostEndKinds(), {
  clock,
  console,
  log: { write: () => undefined },
}).endsOf({ id: "device", where: "devices[0]", spec: {}, config: {} });
const image = (length: number): string => {
  const path = join(directory, "disk.img");
  writeFileSync(
    path,
    Uint8Array.from({ length }, (_, i) => (i >> 8) + i),
  );
  return path;
};
const file = (path: string, readOnly = false): Promise<BlockBackend> =>
  ends.block({ kind: "file", path }, { readOnly });
const memory = (): Promise<BlockBackend> => ends.block({ kind: "memory", mib: 1 }, { readOnly: false });

describe.each([
  ["file", () => file(image(1 << 20))],
  ["file, under realtime,", () => FileBlock.open(image(1 << 20), { readOnly: false })],
  ["memory", memory],
] as const)("a %s disk", (_kind, open) => {
  it("keeps what is written, scattered and gathered, in shared memory too", async () => {
    const disk = await open();
    expect([disk.size, disk.blockSize, disk.readOnly]).toEqual([1 << 20, 512, false]);
    const guest = new Uint8Array(new SharedArrayBuffer(4096));
    guest.forEach((_, i) => (guest[i] = 255 - (i & 0xff)));
    await disk.write(512, [guest.subarray(0, 100), guest.subarray(100, 100), guest.subarray(100, 1024)]);
    await disk.flush();
    const back = new Uint8Array(new SharedArrayBuffer(1024));
    await disk.read(512, [back.subarray(0, 1000), back.subarray(1000)]);
    expect(back).toEqual(guest.subarray(0, 1024));
    await disk.writeZeroes?.(1024, 512, true);
    await disk.read(512, [back]);
    expect([back[511], back[512], back[1023]]).toEqual([guest[511], 0, 0]);
    await disk.close();
  });
});

describe("a file disk", () => {
  it.each(["virtual", "realtime"] as const)(
    "takes more parts than the host does at once, %s",
    async (kind) => {
      const path = image(1 << 20);
      const disk = await FileBlock.open(path, { readOnly: false, clock: { kind } });
      for (const size of [1, 64]) {
        const parts = Array.from({ length: 2048 }, (_, i) => new Uint8Array(size).fill(i));
        await disk.write(512, parts);
        expect(readFileSync(path).subarray(512, 512 + 2048 * size)).toEqual(Buffer.concat(parts));
        const back = parts.map(({ length }) => new Uint8Array(length));
        await disk.read(512, back);
        expect(back).toEqual(parts);
      }
      await disk.close();
    },
  );

  it("does everything before the guest goes on, under a virtual clock", async () => {
    const disk = await FileBlock.open(image(1 << 20), { readOnly: false, clock: { kind: "virtual" } });
    const done: string[] = [];
    const large = new Uint8Array(1 << 19);
    void disk.read(0, [large]).then(() => done.push("read"));
    void disk.write(0, [large]).then(() => done.push("write"));
    void disk.flush().then(() => done.push("flush"));
    await Promise.resolve();
    expect(done).toEqual(["read", "write", "flush"]);
    await disk.close();
  });

  it("rejects what the file no longer has", async () => {
    const path = image(1 << 20);
    const disk = await FileBlock.open(path, { readOnly: false });
    truncateSync(path, 1024);
    for (const length of [1024, 1 << 19]) {
      await expect(disk.read(512, [new Uint8Array(length)])).rejects.toThrow(
        /disk\.img: read: the file ends at 1024/,
      );
    }
    await disk.close();
  });

  it("gets another size", async () => {
    const path = image(4096);
    const disk = await FileBlock.open(path, { readOnly: false });
    await disk.resize(8192);
    expect([disk.size, readFileSync(path).length]).toEqual([8192, 8192]);
    await disk.write(7680, [new Uint8Array(512)]);
    await disk.resize(1024);
    await expect(disk.read(1024, [new Uint8Array(512)])).rejects.toThrow("leave the image");
    await disk.close();
  });

  it("cannot be written where it is to be read only", async () => {
    const disk = await FileBlock.open(image(512), { readOnly: true });
    await expect(disk.write(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: "NB_HOST" });
    await disk.close();
  });

  it.each([
    [
      "missing",
      () => join(directory, "none.img"),
      /none\.img: cannot open for writing: there is no such file/,
    ],
    ["a directory", () => directory, /it is a directory/],
    ["empty", () => image(0), /0 bytes, expected a multiple of 512 and not 0/],
    ["not a whole number of sectors", () => image(1000), /1000 bytes, expected a multiple of 512/],
  ])("is refused where it is %s", async (_what, path, message) => {
    await expect(file(path())).rejects.toThrow(message);
    await expect(file(path())).rejects.toMatchObject({ code: "NB_CONFIG" });
  });
});

describe("a faulty disk", () => {
  const faulty = (options: object = {}): Promise<BlockBackend> => {
    const disk = { kind: "file", path: image(4096) };
    return ends.block({ kind: "faulty", disk, ...options }, { readOnly: false });
  };

  it("fails as the config says, and works otherwise", async () => {
    const disk = await faulty({
      faults: [
        { error: "EIO", on: "read", sectors: [2, 3] },
        { error: "ENOSPC", on: "write", skip: 1, times: 2 },
      ],
    });
    const sector = new Uint8Array(512);
    await disk.read(0, [new Uint8Array(1024)]);
    await expect(disk.read(512, [new Uint8Array(1024)])).rejects.toThrow("read at 512: EIO");
    await expect(disk.read(1536, [sector])).rejects.toMatchObject({ code: "NB_HOST" });
    await disk.read(2048, [sector]);
    await disk.write(0, [sector]);
    await expect(disk.write(0, [sector])).rejects.toThrow("ENOSPC");
    await expect(disk.write(0, [sector])).rejects.toThrow("ENOSPC");
    await disk.write(0, [sector]);
    await disk.flush();
    await disk.close();
  });

  it("reads short and tears writes where a fault comes after some bytes", async () => {
    const disk = new FaultyBlock(await file(image(4096)), { clock });
    const before = new Uint8Array(4096);
    await disk.read(0, [before]);
    disk.failNext("EIO", { on: "write", after: 1024 });
    expect(disk.failed).toBe(0);
    await expect(disk.write(0, [new Uint8Array(700), new Uint8Array(1348)])).rejects.toThrow("EIO");
    expect(disk.failed).toBe(1);
    const after = new Uint8Array(4096);
    await disk.read(0, [after]);
    expect(after).toEqual(before.fill(0, 0, 1024));
    disk.failNext("EIO", { after: 512 });
    const short = new Uint8Array(1024).fill(0xee);
    await expect(disk.read(2048, [short])).rejects.toThrow("EIO");
    expect(short).toEqual(
      Uint8Array.from({ length: 1024 }, (_, i) => (i < 512 ? (before[2048 + i] ?? 0) : 0xee)),
    );
    await disk.close();
  });

  it("takes none where it is opened: guest time stands still then", async () => {
    const disk = await faulty({ latencyUs: 50 });
    await disk.read(0, [new Uint8Array(512)]);
    clock.skipTo(clock.nowNs() + 1);
    const later = disk.flush();
    expect(clock.nextDeadlineNs() - clock.nowNs()).toBe(50_000);
    disk.hurry?.();
    await later;
    await disk.close();
  });

  it("takes guest time, but not more than the machine has", async () => {
    const disk = new FaultyBlock(await file(image(4096)), { clock, latencyUs: 50 });
    const ended: string[] = [];
    const first = disk.flush().then(() => ended.push("flush"));
    const second = disk.read(0, [new Uint8Array(512)]).then(() => ended.push("read"));
    await new Promise(setImmediate);
    expect([ended, clock.nextDeadlineNs() - clock.nowNs()]).toEqual([[], 50_000]);
    clock.skipTo(clock.nowNs() + 50_000);
    clock.runDue();
    await Promise.all([first, second]);
    expect(ended.sort()).toEqual(["flush", "read"]);
    const slower = new FaultyBlock(disk, { clock, latencyUs: 70 });
    const third = slower.flush();
    slower.hurry();
    await third; // by way of the disk below, which it reaches after the hurry
    expect(clock.nextDeadlineNs()).toBe(Infinity);
    clock.skipTo(clock.nowNs() + 1);
    const fourth = disk.flush();
    expect(clock.nextDeadlineNs()).toBe(clock.nowNs() + 50_000);
    disk.hurry();
    await fourth;
    await disk.close();
  });

  it("refuses faults that are none", async () => {
    await expect(faulty({ faults: [{ error: "broken" }] })).rejects.toThrow(/expected an errno/);
  });
});

describe("character back ends", () => {
  it("are the machine's console, which outlives the device", async () => {
    const end = await ends.char({ kind: "console" });
    end.write(0x41);
    const got: number[] = [];
    end.connect((bytes) => got.push(...bytes) && bytes.length);
    console.send("x");
    expect([console.text(), got, end.close]).toEqual(["A", [0x78], undefined]);
  });

  it("are a file that guests append to", async () => {
    const path = join(directory, "log");
    writeFileSync(path, "before;");
    const end = await ends.char({ kind: "file", path });
    for (const byte of new TextEncoder().encode("after")) end.write(byte);
    await end.close?.();
    expect(readFileSync(path, "utf8")).toBe("before;after");
  });
});

describe("network back ends", () => {
  it("bring a looped cable's frames back, whole and in order", async () => {
    const net = await ends.net({ kind: "loopback" });
    const got: number[][] = [];
    let hasRoom = false;
    net.connect(
      (frame) => {
        if (hasRoom) got.push([...frame]);
        return hasRoom;
      },
      () => undefined,
    );
    net.send([Uint8Array.of(1, 2), Uint8Array.of(3)]);
    net.send([Uint8Array.of(4)]);
    await Promise.resolve();
    expect(got).toEqual([]);
    hasRoom = true;
    net.resume();
    expect(got).toEqual([[1, 2, 3], [4]]);
  });
});

describe("a device's paths", () => {
  it("are relative to the config's file, however deep", async () => {
    const config = join(directory, "machine.yaml");
    writeFileSync(
      config,
      "memory: { mib: 16 }\ndevices: [{ plugin: disk, disk: { kind: file, path: a/disk.img }, label: path }]\n",
    );
    const { config: loaded } = await loadMachineConfig(config);
    expect(loaded.devices).toEqual([
      { plugin: "disk", disk: { kind: "file", path: join(directory, "a/disk.img") }, label: "path" },
    ]);
  });
});

describe("entropy", () => {
  it("is the same in every run under a virtual clock, and never otherwise", () => {
    const take = (clock: "virtual" | "realtime"): Uint8Array => {
      const bytes = new Uint8Array(new SharedArrayBuffer(100_000));
      createEntropy(clock).fill(bytes);
      return bytes;
    };
    expect(take("virtual")).toEqual(take("virtual"));
    expect(take("realtime")).not.toEqual(take("realtime"));
  });
});
