import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { capture, hub } from "../src/index.ts";
import { echo, GuestCard, udp } from "./guest-card.ts";
import { has, scratch } from "./scratch.ts";

/** Of the host, and in no package. */
const TSHARK = "tshark";
const MKFIFO = "mkfifo";

interface Block {
  readonly type: number;
  readonly body: DataView;
}

/** Blocks of a file, every rule of the draft's §3.1 that a writer can break checked. */
function blocksOf(bytes: Uint8Array): readonly Block[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks: Block[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    expect([length % 4, length >= 12, at + length <= bytes.length]).toEqual([0, true, true]);
    expect(view.getUint32(at + length - 4, true)).toBe(length);
    blocks.push({
      type: view.getUint32(at, true),
      body: new DataView(bytes.buffer, bytes.byteOffset + at + 8, length - 12),
    });
    at += length;
  }
  return blocks;
}

/** A capture of two frames to the guest's peer and one back, one of them longer than what is kept. */
async function recorded(path: string): Promise<readonly Uint8Array[]> {
  const wire = hub();
  let now = 1_700_000_000_000.25;
  const net = await capture(wire.port(), {
    path,
    snapLength: 100,
    interfaceName: "net0",
    nowMs: () => (now += 1000),
  });
  const guest = new GuestCard(net);
  const peer = new GuestCard(wire.port());
  const frames = [
    echo([1, 2, 3]),
    udp(9, 9, new Array<number>(400).fill(5)),
    echo([4], { from: "10.0.2.2", to: "10.0.2.15" }),
  ];
  guest.send(frames[0]!, frames[1]!);
  peer.send(frames[2]!);
  expect([guest.received.length, peer.received.length]).toEqual([1, 2]);
  await net.close();
  return frames;
}

describe("a capture", () => {
  it("is a pcapng file of the frames, their times and directions (draft-ietf-opsawg-pcapng §4)", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "net.pcapng");
    const frames = await recorded(path);
    const blocks = blocksOf(readFileSync(path));
    expect(blocks.map(({ type }) => type)).toEqual([0x0a0d0d0a, 1, 6, 6, 6, 5]);
    const [section, description, ...packets] = blocks;
    expect([section!.body.getUint32(0, true), section!.body.getUint16(4, true)]).toEqual([0x1a2b3c4d, 1]);
    expect([description!.body.getUint16(0, true), description!.body.getUint32(4, true)]).toEqual([1, 100]);
    for (const [index, frame] of frames.entries()) {
      const { body } = packets[index]!;
      const timeUs = body.getUint32(4, true) * 2 ** 32 + body.getUint32(8, true);
      expect(timeUs).toBe(1_700_000_000_000_250 + (index + 1) * 1_000_000);
      const captured = body.getUint32(12, true);
      expect([captured, body.getUint32(16, true)]).toEqual([Math.min(100, frame.length), frame.length]);
      const data = new Uint8Array(body.buffer, body.byteOffset + 20, captured);
      expect([...data]).toEqual([...frame.subarray(0, 100)]);
      const options = 20 + ((captured + 3) & ~3);
      expect([body.getUint16(options, true), body.getUint16(options + 2, true)]).toEqual([2, 4]);
      expect(body.getUint32(options + 4, true)).toBe(index < 2 ? 2 : 1);
      expect(body.getUint32(options + 8, true)).toBe(0);
    }
  });

  it.skipIf(!has(TSHARK))("is read by tshark as what it is (needs tshark)", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "net.pcapng");
    const frames = await recorded(path);
    const fields = [
      "frame.len",
      "frame.cap_len",
      "frame.time_epoch",
      "frame.interface_name",
      "ip.src",
      "ip.proto",
    ];
    const output = execFileSync(
      TSHARK,
      ["-r", path, "-T", "fields", ...fields.flatMap((name) => ["-e", name])],
      {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    expect(output.trim().split("\n")).toEqual([
      `${frames[0]!.length}\t${frames[0]!.length}\t1700000001.000250000\tnet0\t10.0.2.15\t1`,
      `${frames[1]!.length}\t100\t1700000002.000250000\tnet0\t10.0.2.15\t17`,
      `${frames[2]!.length}\t${frames[2]!.length}\t1700000003.000250000\tnet0\t10.0.2.2\t1`,
    ]);
  });

  it("ends, though the reader of a pipe has stopped to read", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "live");
    execFileSync(MKFIFO, [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const net = await capture(hub().port(), { path });
    for (let count = 0; count < 200; count += 1) net.send([new Uint8Array(1500)]);
    await net.close();
    const read = Buffer.alloc(4);
    readSync(reader, read);
    expect(read.readUInt32LE()).toBe(0x0a0d0d0a);
    closeSync(reader);
  });

  it.skipIf(!has(TSHARK))(
    "is read by tshark live, from a pipe, while frames pass",
    { timeout: 60_000 },
    async () => {
      await using directory = await scratch();
      const path = join(directory.path, "pipe");
      execFileSync(MKFIFO, [path]);
      const reader = spawn(TSHARK, ["-i", path, "-l", "-T", "fields", "-e", "frame.len"], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      const lines = createInterface({ input: reader.stdout })[Symbol.asyncIterator]();
      try {
        const wire = hub();
        const net = await capture(wire.port(), { path });
        const guest = new GuestCard(net);
        for (const length of [1, 100]) {
          const frame = udp(1, 2, new Array<number>(length).fill(7));
          guest.send(frame);
          // The frame is there before the next one is, and long before the capture ends.
          expect((await lines.next()).value).toBe(String(frame.length));
        }
        await net.close();
        const [code] = (await once(reader, "close")) as [number | null];
        expect(code).toBe(0);
      } finally {
        reader.kill();
      }
    },
  );

  it("says that a full disk has ended it, once, and frames go on", async () => {
    const said: string[] = [];
    const network = hub();
    const link = await capture(network.port(), { path: "/dev/full", warn: (line) => said.push(line) });
    let received = 0;
    network.port().connect(
      () => {
        received += 1;
        return true;
      },
      () => undefined,
    );
    while (said.length === 0) {
      link.send([new Uint8Array(60)]);
      await new Promise((done) => setImmediate(done));
    }
    const before = received;
    link.send([new Uint8Array(60)]);
    expect([said, received - before]).toEqual([
      [expect.stringMatching(/^\/dev\/full: the capture ends here: ENOSPC/)],
      1,
    ]);
    await link.close();
  });

  it("says where it cannot write", async () => {
    await expect(capture(hub().port(), { path: "/nowhere/at/all.pcapng" })).rejects.toMatchObject({
      code: "NB_HOST",
      message: expect.stringContaining("path: cannot write /nowhere/at/all.pcapng"),
    });
  });
});
