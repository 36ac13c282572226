import { VirtioBalloon, VirtioInput, VirtioRng } from "@northbridge/devices-virtio";
import { FakeClock } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { type DrivenDevice, u32 } from "./driven-device.ts";
import { fileSystem } from "./file-system.ts";
import { blk, patientBlk, pmem, scsi } from "./storage.ts";
import { netCard, serialPorts, vsock } from "./streams.ts";

export type { DrivenDevice } from "./driven-device.ts";
export { settle } from "./held-answers.ts";

const anyHead = fc.nat(14).map(u32);
const anyLengths = [1, 12, 16, 20, 512, 2048];

const u32Of = (bytes: readonly number[], at: number): number =>
  [3, 2, 1, 0].reduce((value, i) => value * 256 + (bytes[at + i] ?? 0), 0);

const rng: DrivenDevice = {
  name: "rng",
  underWay: ["kept", "waiting"],
  host: () => {
    let clock = new FakeClock();
    return {
      device: () => {
        clock = new FakeClock({ nowNs: clock.nowNs() }); // one that was replaced sets off nothing any more
        const limits = { rates: { bytesPerSecond: 20_000 }, clock };
        return new VirtioRng({ entropy: { fill: (into) => into.fill(0x5a) }, limits });
      },
      act: (choice, isPaused = false) => {
        if (!isPaused) clock.advance((choice % 64) * 1e6);
      },
    };
  },
  head: anyHead,
  lengths: anyLengths,
  shapes: [
    [[], [512]],
    [[], [16, 2048]],
  ],
};

const balloon: DrivenDevice = {
  name: "balloon",
  underWay: ["kept", "waiting"],
  host: () => {
    let current: VirtioBalloon | undefined;
    return {
      device: () => (current = new VirtioBalloon()),
      act: (choice) => {
        if (current === undefined) return;
        if (choice % 2 === 0) current.requestStatistics();
        else current.targetMib = choice;
      },
    };
  },
  // Pages behind the buffers of the tests, where they are memory: what is in them is lost.
  head: fc.oneof(
    fc.constantFrom(u32(0xffff_ffff), [...u32(0xf0), ...u32(0xf1)], u32(0x100), u32(0x3c), u32(0x3f)),
    anyHead.map(([n = 0]) => u32(0xe0 + n)),
  ),
  // What of a buffer is not the head is zeros, or an older head.
  pagesIn: (head) => [0, ...head.flatMap((_, i) => (i % 4 === 0 ? [u32Of(head, i)] : []))],
  lengths: anyLengths,
  shapes: [
    [[12], []],
    [[20], []],
    [[], [512, 2048]],
  ],
};

const keyboard: DrivenDevice = {
  name: "input",
  underWay: ["waiting"],
  host: () => {
    let current: VirtioInput | undefined;
    return {
      device: () => (current = new VirtioInput({ kind: "keyboard" })),
      act: (choice) => void current?.report([[1, choice & 0x7f, choice & 1]]),
    };
  },
  head: fc.record({ code: fc.nat(3), value: fc.nat(2) }).map(({ code, value }) => [0x11, 0, code, 0, value]),
  lengths: [1, 7, 8, 64],
  shapes: [
    [[8], []],
    [[], [8]],
  ],
};

/** Every device of this package. */
export const drivenDevices: readonly DrivenDevice[] = [
  ...[blk, patientBlk, rng, balloon, serialPorts, netCard],
  ...[vsock, scsi, fileSystem, keyboard, pmem],
];
