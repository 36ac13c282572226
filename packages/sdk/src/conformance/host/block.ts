import type { BlockBackend } from "@northbridge/core/contracts";
import { expectEqual, expectRejection, type SuiteHooks } from "./conformance-hooks.ts";

/** Writes of the random walk. */
const STEPS = 200;
/** Blocks at the start of the device that the suite writes. */
const BLOCKS = 64;

/**
 * Declares the tests that every `BlockBackend` passes.
 * @param create gives a writable back end of at least 64 blocks; its content is written over
 */
export function blockConformance(hooks: SuiteHooks, create: () => Promise<BlockBackend>): void {
  const test = (name: string, body: (disk: BlockBackend) => Promise<void>): void => {
    hooks.it(name, async () => {
      const disk = await create();
      try {
        await body(disk);
      } finally {
        await disk.close();
      }
    });
  };
  hooks.describe("block back end conformance", () => {
    test("says a size in whole blocks, and blocks of a power of two from 512", (disk) => {
      expectEqual("size in blocks", disk.size % disk.blockSize, 0);
      expectEqual("power of two", Number.isInteger(Math.log2(disk.blockSize)) && disk.blockSize >= 512, true);
      return Promise.resolve();
    });

    test("reads what was written last, however it is scattered", async (disk) => {
      const { blockSize } = disk;
      const model = new Uint8Array(BLOCKS * blockSize);
      await disk.write(0, [model]);
      const next = sequence(7);
      for (let step = 0; step < STEPS; step++) {
        const first = next(BLOCKS);
        const count = 1 + next(Math.min(8, BLOCKS - first));
        const range = [first * blockSize, (first + count) * blockSize] as const;
        const bytes = Uint8Array.from({ length: count * blockSize }, () => next(256));
        const kind = next(4);
        if (kind === 0 && disk.writeZeroes !== undefined) {
          await disk.writeZeroes(range[0], bytes.length, next(2) === 0);
          model.fill(0, ...range);
        } else if (kind < 3) {
          await disk.write(range[0], scatter(bytes, next));
          model.set(bytes, range[0]);
        } else {
          const found = new Uint8Array(bytes.length).fill(0xa5);
          await disk.read(range[0], scatter(found, next));
          expectSameBytes(`step ${step}`, found, model.subarray(...range));
        }
      }
      const all = new Uint8Array(model.length);
      await disk.read(0, [all]);
      expectSameBytes("at the end", all, model);
    });

    test("reads the last block, and refuses what goes past it", async (disk) => {
      const { size, blockSize } = disk;
      const bytes = new Uint8Array(blockSize).fill(0x5a);
      await disk.write(size - blockSize, [bytes]);
      const found = new Uint8Array(blockSize);
      await disk.read(size - blockSize, [found]);
      expectSameBytes("the last block", found, bytes);
      await expectRejection("reading past the end", "NB_HOST", () => disk.read(size, [found]));
      await expectRejection("writing past the end", "NB_HOST", () =>
        disk.write(size - blockSize, [new Uint8Array(2 * blockSize)]),
      );
    });

    test("keeps requests apart that are under way together", async (disk) => {
      const { blockSize } = disk;
      await Promise.all(
        Array.from({ length: BLOCKS }, (_, block) =>
          disk.write(block * blockSize, [new Uint8Array(blockSize).fill(block + 1)]),
        ),
      );
      const found = Array.from({ length: BLOCKS }, () => new Uint8Array(blockSize));
      await Promise.all(found.map((into, block) => disk.read(block * blockSize, [into])));
      found.forEach((bytes, block) => {
        expectSameBytes(`block ${block}`, bytes, new Uint8Array(blockSize).fill(block + 1));
      });
    });

    test("flushes with and without anything to flush", async (disk) => {
      await disk.flush();
      await disk.write(0, [new Uint8Array(disk.blockSize)]);
      await disk.flush();
    });

    test("takes a request without bytes", async (disk) => {
      await disk.read(0, []);
      await disk.write(0, []);
    });
  });
}

function expectSameBytes(what: string, found: Uint8Array, expected: Uint8Array): void {
  const at = expected.findIndex((byte, index) => byte !== found[index]);
  if (at >= 0) {
    throw new Error(`${what}: byte ${at} is ${String(found[at])}, expected ${String(expected[at])}`);
  }
}

/** `bytes` as up to four views, cut anywhere. */
function scatter(bytes: Uint8Array, next: (below: number) => number): readonly Uint8Array[] {
  const cuts = Array.from({ length: next(4) }, () => next(bytes.length + 1)).toSorted((a, b) => a - b);
  return [0, ...cuts].map((cut, index) => bytes.subarray(cut, cuts[index] ?? bytes.length));
}

/** Numbers that look random and are the same each time (Park, Miller). */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state % below;
  };
}
