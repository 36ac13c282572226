import { type BlockBackend, type DeviceEntry, Entropy, HostEnds } from "@northbridge/sdk";
import { deviceConformance, type LawName } from "@northbridge/sdk/fuzz";
import { FakeCharBackend, FakeDisk, type FakeMachine, FakeMemory, FakeNet } from "@northbridge/sdk/testing";
import { describe, it } from "vitest";
import {
  virtioBalloon,
  virtioBlk,
  virtioConsole,
  virtioFs,
  virtioInput,
  virtioNet,
  virtioPmem,
  virtioRng,
  virtioScsi,
  virtioVsock,
} from "../src/index.ts";
import { MemoryTree } from "./driven/memory-tree.ts";
import { Streams } from "./driven/streams.ts";

const PMEM_BYTES = 2 << 20;
/** The guest's, and not the device's: the same for all of them. */
const [ownMemory] = new FakeMemory(PMEM_BYTES, 0x1_0000_0000).slots;

/** A file that is mapped under memory. */
const mapped: BlockBackend = {
  size: PMEM_BYTES,
  blockSize: 512,
  readOnly: false,
  read: () => Promise.reject(new Error("it is mapped")),
  write: () => Promise.reject(new Error("it is mapped")),
  flush: () => Promise.resolve(),
  mapUnder: () => true,
  close: () => Promise.resolve(),
};

/** A device that is given memory of its own, as a machine does. */
function withMemory(entry: DeviceEntry): DeviceEntry {
  const { spec } = entry;
  const setup: typeof spec.setup = (ctx, config) => spec.setup({ ...ctx, ownMemory }, config);
  return { ...entry, spec: { ...spec, setup } };
}

/** Host ends of every sort that forget all between two machines. */
function prepare(machine: FakeMachine): void {
  machine.provide(Entropy, { fill: (into) => void into.fill(0x5a) });
  machine.provide(HostEnds, {
    block: ({ kind }) => Promise.resolve(kind === "mapped" ? mapped : new FakeDisk(1 << 16)),
    char: () => Promise.resolve(new FakeCharBackend()),
    net: () => Promise.resolve(new FakeNet()),
    directory: () => Promise.resolve(new MemoryTree()),
    vsock: () => Promise.resolve(new Streams()),
  });
}

const end = { kind: "fake" };
interface Place {
  readonly mmio?: { readonly gpa: number; readonly gsi: number };
  readonly transitional?: boolean;
}
const devices: Readonly<Record<string, (place: Place) => DeviceEntry>> = {
  virtioBalloon: (place) => virtioBalloon(place),
  virtioBlk: (place) => virtioBlk({ disk: end, ...place }),
  virtioConsole: (place) => virtioConsole({ to: end, ...place }),
  virtioFs: (place) => virtioFs({ tag: "shared", directory: end, ...place }),
  virtioInput: (place) => virtioInput({ kind: "keyboard", ...place }),
  virtioNet: (place) => virtioNet({ link: end, ...place }),
  virtioPmem: (place) => withMemory(virtioPmem({ file: { kind: "mapped" }, mib: 2, ...place })),
  virtioRng: (place) => virtioRng(place),
  virtioScsi: (place) => virtioScsi({ targets: [{ disk: end }], ...place }),
  virtioVsock: (place) => virtioVsock({ to: end, ...place }),
};

/** A SCSI disk says whether it was powered on or reset (SPC-4 §5.14). */
const EXCEPT: Readonly<Record<string, readonly LawName[]>> = { virtioScsi: ["reset"] };

const places: Readonly<Record<string, Place>> = {
  "on PCI": {},
  "on PCI, transitional": { transitional: true },
  "on MMIO": { mmio: { gpa: 0xfea0_0000, gsi: 5 } },
};

// They have no older registers, or the others say all that there is of them.
const MODERN: ReadonlySet<string> = new Set([
  ...["virtioFs", "virtioPmem", "virtioVsock"],
  ...["virtioConsole", "virtioInput", "virtioRng", "virtioScsi"],
]);

for (const [where, place] of Object.entries(places)) {
  const chosen = Object.entries(devices).filter(
    ([name]) => !(place.transitional === true && MODERN.has(name)),
  );
  describe.each(chosen)(`%s ${where}`, (name, create) => {
    deviceConformance({ describe, it }, { create: () => create(place), prepare, except: EXCEPT[name] ?? [] });
  });
}
