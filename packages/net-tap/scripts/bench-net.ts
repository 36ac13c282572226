/**
 * `node --conditions=northbridge-source packages/net-tap/scripts/bench-net.ts [SECONDS]`: what the NAT and the switch
 * carry in this thread, without a machine. Reports; judges nothing.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { ethernetSwitch, user } from "../src/index.ts";

const seconds = Number(process.argv[2] ?? "3");

const checksum = (bytes: Uint8Array, from: number, to: number): number => {
  let sum = 0;
  for (let at = from; at < to; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
};

/** A frame of TCP to the gateway's port 80 with `length` bytes of data, its checksum left undone. */
function segment(length: number, flags: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(54 + length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x52, 0x55, 0x0a, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x08, 0x00]);
  bytes.set([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2], 14);
  view.setUint16(16, 40 + length);
  view.setUint16(24, checksum(bytes, 14, 34));
  view.setUint16(34, 40_000);
  view.setUint16(36, 80);
  bytes.set([flags === 2 ? 0x60 : 0x50, flags, 0xff, 0xff], 46);
  return { bytes, view };
}

/** Frames of 64 KiB through `user()` to a socket of another process that throws everything away. */
async function nat(): Promise<void> {
  const sink = spawn(
    process.execPath,
    [
      "-e",
      `require("node:net").createServer((s) => s.resume()).listen(0, "127.0.0.1", function () { console.log(this.address().port); });`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = (await once(sink.stdout, "data")) as [Buffer];
  const net = await user({ hostPorts: [{ guestPort: 80, hostPort: Number(String(line)) }] });
  const header = Uint8Array.of(1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 0, 0);
  const data = segment(64_240, 0x10);
  let next = 1001;
  let edge = 0;
  let acknowledgment = 0;
  let isOpen = false;
  let bytes = 0;
  const blast = (): void => {
    while (isOpen && ((edge - next) | 0) >= 64_240) {
      data.view.setUint32(38, next);
      data.view.setUint32(42, acknowledgment);
      net.send([data.bytes], header);
      next = (next + 64_240) >>> 0;
      bytes += 64_240;
    }
  };
  net.connect(
    (frame) => {
      const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
      if (view.getUint16(12) !== 0x0800 || frame[23] !== 6) return true;
      const flags = frame[47] ?? 0;
      const isSyn = (flags & 2) !== 0;
      edge = (view.getUint32(42) + view.getUint16(48) * (isSyn ? 1 : 8)) >>> 0;
      if (isSyn) {
        acknowledgment = (view.getUint32(38) + 1) >>> 0;
        const ack = segment(0, 0x10);
        ack.view.setUint32(38, next);
        ack.view.setUint32(42, acknowledgment);
        isOpen = true;
        setImmediate(() => {
          net.send([ack.bytes], header);
          blast();
        });
      } else setImmediate(blast);
      return true;
    },
    () => undefined,
  );
  // SYN with a window scale of 3: ours is taken in return.
  const syn = segment(4, 2);
  syn.bytes.set([1, 3, 3, 3], 54);
  syn.view.setUint32(38, 1000);
  net.send([syn.bytes], header);
  const started = performance.now();
  const before = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const elapsed = (performance.now() - started) / 1000;
  const { user: cpuUser, system } = process.cpuUsage(before);
  const gbit = (bytes * 8) / 1e9;
  const cpu = (cpuUser + system) / 1e6;
  console.log(
    `NAT, 64 KiB frames to a socket: ${(gbit / elapsed).toFixed(2)} Gbit/s, ${(gbit / cpu).toFixed(2)} Gbit per CPU second`,
  );
  await net.close();
  sink.kill();
}

/** Smallest frames between two ports of a switch. */
function small(): void {
  const fabric = ethernetSwitch();
  const [one, two] = [fabric.port(), fabric.port()];
  let received = 0;
  for (const port of [one, two]) {
    port.connect(
      () => {
        received += 1;
        return true;
      },
      () => undefined,
    );
  }
  const frame = new Uint8Array(60);
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
  const back = frame.slice();
  back.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  two.send([back]);
  const parts = [frame.subarray(0, 14), frame.subarray(14)];
  const started = performance.now();
  while (performance.now() - started < seconds * 1000)
    for (let turn = 0; turn < 1000; turn += 1) one.send(parts);
  const elapsed = (performance.now() - started) / 1000;
  console.log(`switch, 60-byte frames: ${Math.round(received / elapsed / 1000)} k/s`);
}

await nat();
small();
