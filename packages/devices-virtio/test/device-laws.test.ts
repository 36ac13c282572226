import { type DeviceEntry, Entropy, HostEnds } from "@northbridge/sdk";
import { deviceConformance, type LawName } from "@northbridge/sdk/fuzz";
import { FakeCharBackend, FakeDisk, type FakeMachine, FakeNet } from "@northbridge/sdk/testing";
import { describe, it } from "vitest";
import {
  virtioBalloon,
  virtioBlk,
  virtioConsole,
  virtioInput,
  virtioNet,
  virtioRng,
  virtioScsi,
} from "../src/index.ts";

/** Host ends of every sort that forget all between two machines. */
function prepare(machine: FakeMachine): void {
  machine.provide(Entropy, { fill: (into) => void into.fill(0x5a) });
  machine.provide(HostEnds, {
    block: () => Promise.resolve(new FakeDisk(1 << 16)),
    char: () => Promise.resolve(new FakeCharBackend()),
    net: () => Promise.resolve(new FakeNet()),
    directory: () => Promise.reject(new Error("no directory")),
    vsock: () => Promise.reject(new Error("no sockets")),
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
  virtioInput: (place) => virtioInput({ kind: "keyboard", ...place }),
  virtioNet: (place) => virtioNet({ link: end, ...place }),
  virtioRng: (place) => virtioRng(place),
  virtioScsi: (place) => virtioScsi({ targets: [{ disk: end }], ...place }),
};

/** A SCSI disk says whether it was powered on or reset (SPC-4 §5.14). */
const EXCEPT: Readonly<Record<string, readonly LawName[]>> = { virtioScsi: ["reset"] };

const places: Readonly<Record<string, Place>> = {
  "on PCI": {},
  "on PCI, transitional": { transitional: true },
  "on MMIO": { mmio: { gpa: 0xfea0_0000, gsi: 5 } },
};

// The others say all that there is of the older registers.
const MODERN: ReadonlySet<string> = new Set(["virtioConsole", "virtioInput", "virtioRng", "virtioScsi"]);

for (const [where, place] of Object.entries(places)) {
  const chosen = Object.entries(devices).filter(
    ([name]) => !(place.transitional === true && MODERN.has(name)),
  );
  describe.each(chosen)(`%s ${where}`, (name, create) => {
    deviceConformance({ describe, it }, { create: () => create(place), prepare, except: EXCEPT[name] ?? [] });
  });
}
