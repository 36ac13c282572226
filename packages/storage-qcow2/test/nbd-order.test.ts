import { join } from "node:path";
import type { BlockBackend } from "@northbridge/sdk";
import { expect, it } from "vitest";
import { NbdServer } from "../src/nbd/nbd-server.ts";
import { clientBytes, talk, type WireRequest } from "./nbd-wire.ts";
import { inDirectory, Random, seeds } from "./qemu.ts";

const BLOCK = 512;
const CLIENTS = 6;
/** Of each client. No multiple of a block: neighbours share one. */
const REGION = 1500;
const SIZE = Math.ceil((CLIENTS * REGION) / BLOCK) * BLOCK;

/** A disk on which everything takes a while, and a different one each time. */
function slowDisk(content: Uint8Array, random: Random): BlockBackend {
  const pass = async (): Promise<void> => {
    for (let turns = random.below(4); turns > 0; turns -= 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const zero = async (offset: number, length: number): Promise<void> => {
    expect([offset % BLOCK, length % BLOCK]).toEqual([0, 0]);
    await pass();
    content.fill(0, offset, offset + length);
    await pass();
  };
  return {
    size: SIZE,
    blockSize: BLOCK,
    readOnly: false,
    read: async (offset, into) => {
      await pass();
      const [only] = into;
      only?.set(content.subarray(offset, offset + only.length));
      await pass();
    },
    write: async (offset, from) => {
      await pass();
      content.set(from[0] ?? [], offset);
      await pass();
    },
    writeZeroes: zero,
    discard: zero,
    flush: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

it.each(seeds(20))("clients that write parts of the same blocks lose nothing, seed %i", async (seed) => {
  await inDirectory(async (directory) => {
    const random = new Random(seed);
    const content = new Uint8Array(SIZE).fill(0xee);
    const model = content.slice();
    const path = join(directory, "s");
    const disk = slowDisk(content, random);
    // Two exports of one disk.
    const exports = ["", "again"].map((name) => ({ name, disk, contexts: new Map<string, never>() }));
    const server = await NbdServer.listen(path, { exports });
    const clients = Array.from({ length: CLIENTS }, (_, client) => {
      const requests = Array.from({ length: 15 }, (): WireRequest => {
        const isAligned = random.chance(4);
        const from = client * REGION;
        const first = isAligned ? Math.ceil(from / BLOCK) * BLOCK : from + random.below(REGION);
        const length = isAligned ? BLOCK : 1 + random.below(from + REGION - first);
        const command = random.pick(["write", "write", "zero", "trim"] as const);
        if (command === "write") {
          const bytes = random.bytes(length);
          model.set(bytes, first);
          return { command, offset: first, length, bytes };
        }
        const start = command === "trim" ? Math.ceil(first / BLOCK) * BLOCK : first;
        const end = command === "trim" ? Math.floor((first + length) / BLOCK) * BLOCK : first + length;
        if (end > start) model.fill(0, start, end);
        return { command, offset: first, length };
      });
      return talk(path, clientBytes(requests, client % 2 === 0 ? "" : "again"), false);
    });
    await Promise.all(clients);
    await server.close();
    expect(Buffer.compare(content, model)).toBe(0);
  });
});
