import type { MemorySlot } from "@northbridge/sdk";
import type { RequestShape } from "@northbridge/sdk/fuzz";
import { FakeClock, FakeMemory } from "@northbridge/sdk/testing";
import { VirtioBlk, VirtioPmem, VirtioScsi } from "@northbridge/devices-virtio";
import fc from "fast-check";
import { type DrivenDevice, StillDisk, u32, u64 } from "./driven-device.ts";
import { HeldAnswers, hold } from "./held-answers.ts";

const blkHead = fc
  .record({
    type: fc.constantFrom(0, 1, 4, 8, 11, 13, 2, 0xffff_ffff),
    sector: fc.constantFrom(0, 1, 8, 159, 160, 2 ** 32, 2 ** 54, 2 ** 63),
    ranges: fc.array(fc.tuple(fc.constantFrom(0, 1, 150, 2 ** 55), fc.constantFrom(0, 1, 8, 0xffff_ffff)), {
      maxLength: 3,
    }),
    flags: fc.constantFrom(0, 0, 1, 2),
  })
  .map(({ type, sector, ranges, flags }) => [
    ...[...u32(type), ...u32(0), ...u64(sector)],
    ...ranges.flatMap(([from, count]) => [...u64(from), ...u32(count), ...u32(flags)]),
  ]);

const blkLengths = [1, 12, 16, 20, 32, 48, 512, 513, 2048];

const blkShapes: readonly RequestShape[] = [
  [[16, 512], [1]],
  [[16], [512, 1]],
  [[16, 16], [1]],
  [[32], [1]],
  [[16], [20, 1]],
  [[16], [1]],
];

export const blk: DrivenDevice = {
  name: "blk",
  underWay: ["inHost", "waiting"],
  host: () => {
    const backend = new StillDisk();
    const { answers } = backend;
    return {
      device: () => new VirtioBlk({ backend, serial: "x", queueSize: 8 }),
      act: (choice) => {
        hold(answers, choice);
      },
      answers,
    };
  },
  head: blkHead,
  lengths: blkLengths,
  shapes: blkShapes,
};

/** Requests stay with it: while the host fails, and while there are no tokens for them. */
export const patientBlk: DrivenDevice = {
  name: "blk that waits",
  underWay: ["inHost", "kept", "waiting"],
  host: () => {
    const backend = new StillDisk();
    const rates = { operationsPerSecond: 1000, bytesPerSecond: 100_000, burstMs: 5 };
    let clock = new FakeClock();
    return {
      device: () => {
        clock = new FakeClock({ nowNs: clock.nowNs() }); // one that was replaced sets off nothing any more
        const limits = { rates, clock };
        return new VirtioBlk({ backend, serial: "x", queues: 2, queueSize: 8, onError: "stop", limits });
      },
      act: (choice, isPaused = false) => {
        if (choice % 3 === 0) backend.error = choice % 2 === 0 ? new Error("ENOSPC") : undefined;
        else if (choice % 3 === 1) hold(backend.answers, choice >>> 2);
        else if (!isPaused) clock.advance((choice % 64) * 100_000);
      },
      answers: backend.answers,
    };
  },
  head: blkHead,
  lengths: blkLengths,
  shapes: blkShapes,
};

const scsiCommand = (target: number, cdb: readonly number[]): number[] => [
  ...[1, target, 0, 0, 0, 0, 0, 0],
  ...new Array<number>(11).fill(0),
  ...cdb,
  ...new Array<number>(32 - cdb.length).fill(0),
];

const scsiHead = fc.oneof(
  {
    // READ (10), WRITE (10) of one block, and SYNCHRONIZE CACHE (10).
    weight: 8,
    arbitrary: fc
      .record({ target: fc.constantFrom(0, 0, 0, 1), op: fc.constantFrom(0x28, 0x2a, 0x35), lba: fc.nat(8) })
      .map(({ target, op, lba }) => scsiCommand(target, [op, 0, 0, 0, 0, lba, 0, 0, 1])),
  },
  {
    weight: 4,
    arbitrary: fc
      .record({
        target: fc.nat(2),
        op: fc.constantFrom(
          ...[
            ...[0, 3, 8, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46],
            ...[0x4a, 0x51, 0x5a, 0x88, 0x8a, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xff],
          ],
        ),
        rest: fc.array(fc.constantFrom(0, 0, 0, 1, 2, 8, 0x10, 0x3f, 0xff), {
          minLength: 15,
          maxLength: 15,
        }),
      })
      .map(({ target, op, rest }) => scsiCommand(target, [op, ...rest])),
  },
  {
    // Task management, as long as a command's fixed part is not.
    weight: 1,
    arbitrary: fc
      .record({ subtype: fc.nat(8), target: fc.nat(2) })
      .map(({ subtype, target }) => [
        ...[...u32(0), ...u32(subtype), 1, target],
        ...new Array<number>(14).fill(0),
      ]),
  },
);

const scsiLengths = [1, 16, 24, 51, 108, 512, 620];

const scsiShapes: readonly RequestShape[] = [
  [[51], [108], 2],
  [[51], [108, 512], 2],
  [[51], [108, 512], 2],
  [[51, 512], [108], 2],
  [[51, 512], [108], 2],
  [[51, 24], [108], 2],
];

export const scsi: DrivenDevice = {
  name: "scsi",
  underWay: ["inHost", "kept", "waiting"],
  host: () => {
    const answers = new HeldAnswers();
    const [disk, image] = [new StillDisk(answers), new StillDisk(answers, true)];
    let current: VirtioScsi | undefined;
    return {
      device: () =>
        (current = new VirtioScsi({
          targets: [
            { type: "disk", backend: disk, serial: "d" },
            { type: "cdRom", backend: image, serial: "c" },
          ],
          onError: "stop",
        })),
      act: (choice) => {
        if (choice % 8 < 2) disk.error = choice % 8 === 0 ? new Error("EIO") : undefined;
        else if (choice % 8 === 2) current?.resized(choice % 2);
        else hold(answers, choice >>> 3);
      },
      answers,
    };
  },
  head: scsiHead,
  lengths: scsiLengths,
  shapes: [
    ...scsiShapes,
    ...scsiShapes,
    ...scsiShapes,
    [[24], [1], 0], // a mistake, where its head is a command's
    [[16], [16], 0],
    [[], [16], 1],
  ],
};

const PMEM_BYTES = 1 << 14;

export const pmem: DrivenDevice = {
  name: "pmem",
  underWay: ["inHost", "waiting"],
  host: () => {
    const memory = new FakeMemory(PMEM_BYTES, 0x1000_0000);
    const answers = new HeldAnswers();
    const [slot] = memory.slots as readonly [MemorySlot];
    const content = { flush: () => answers.operation(() => undefined), stats: () => ({}) };
    return {
      device: () => new VirtioPmem({ slot, content }),
      act: (choice) => {
        hold(answers, choice);
      },
      answers,
    };
  },
  head: fc.constantFrom(u32(0), u32(0), u32(1), u32(0xffff_ffff), [0]),
  lengths: [1, 3, 4, 8, 512],
  shapes: [[[4], [4]]],
};
