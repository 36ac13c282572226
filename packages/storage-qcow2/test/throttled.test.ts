import { FakeClock } from "@northbridge/sdk/testing";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { ThrottledDisk, type ThrottleLimits } from "../src/graph/throttled-disk.ts";
import { RawImage } from "../src/raw/raw-image.ts";

const SECOND = 1e9;

/** Keeps `depth` reads under way for a second of guest time, in steps of a millisecond, and counts those that ended. */
async function readsInASecond(limits: ThrottleLimits, bytes: number, depth: number): Promise<number> {
  const clock = new FakeClock({ nowNs: SECOND });
  const disk = new ThrottledDisk(new RawImage(new MemoryFile("m", new Uint8Array(1 << 20))), clock, limits);
  let ended = 0;
  let isOver = false;
  const one = async (): Promise<void> => {
    while (!isOver) {
      await disk.read(0, [new Uint8Array(bytes)]);
      if (!isOver) ended += 1;
    }
  };
  const all = Array.from({ length: depth }, one);
  for (let ms = 0; ms < 1000; ms += 1) {
    clock.advance(1e6);
    await new Promise((resolve) => setImmediate(resolve));
  }
  isOver = true;
  disk.hurry();
  await Promise.all(all);
  expect(disk.throttled).toBeGreaterThan(0);
  return ended;
}

it.each([
  [{ requests: 500 }, 512, 1, 550],
  [{ requests: 500 }, 4096, 8, 550],
  [{ requests: 200, burstMs: 1 }, 512, 4, 200],
  [{ bytes: 1 << 20 }, 4096, 4, 282],
  [{ bytes: 1 << 20, requests: 100 }, 4096, 4, 110],
])("lets %j through in a second and its burst, requests of %i bytes, %i at a time: %i", async (...row) => {
  const [limits, bytes, depth, expected] = row;
  const ended = await readsInASecond(limits, bytes, depth);
  // One more or less at either end, and one for each that was under way.
  expect(Math.abs(ended - expected)).toBeLessThanOrEqual(depth + 2);
});

it("does every kind of request, in order, and at once where the machine is in a hurry", async () => {
  const clock = new FakeClock();
  const file = new MemoryFile("m", new Uint8Array(65536).fill(9));
  const disk = new ThrottledDisk(new RawImage(file), clock, { requests: 1, burstMs: 1 });
  const done: string[] = [];
  const note = (what: string, request: Promise<void> | undefined): Promise<void> =>
    (request ?? Promise.reject(new Error(what))).then(() => void done.push(what));
  const all = [
    note("write", disk.write(0, [new Uint8Array(512).fill(1)])),
    note("zeroes", disk.writeZeroes?.(512, 512, true)),
    note("discard", disk.discard?.(1024, 512)),
    note("flush", disk.flush()),
  ];
  clock.advance(2.5 * SECOND);
  await new Promise((resolve) => setImmediate(resolve));
  expect(done).toEqual(["write", "zeroes", "discard"]);
  disk.hurry();
  await Promise.all(all);
  expect(done).toEqual(["write", "zeroes", "discard", "flush"]);
  await disk.flush(); // guest time stands still: what else a pause waits for takes none
  expect(file.content().subarray(510, 514)).toEqual(Uint8Array.of(1, 1, 0, 0));
  expect({ size: disk.size, blockSize: disk.blockSize, readOnly: disk.readOnly }).toEqual({
    size: 65536,
    blockSize: 512,
    readOnly: false,
  });
  await disk.close();
});
