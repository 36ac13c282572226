import { LoopbackNet, MemoryBlock, SlottedGuestMemory } from "@northbridge/core";
import {
  VirtioBalloon,
  VirtioBlk,
  VirtioConsole,
  VirtioFs,
  VirtioInput,
  VirtioNet,
  VirtioPmem,
  VirtioRng,
  VirtioScsi,
  VirtioVsock,
} from "@northbridge/devices-virtio";
import { HostDirectory } from "@northbridge/linux";
import type { HostStream, VsockBackend } from "@northbridge/sdk";
import { FakeCharBackend, FakeMemory } from "@northbridge/sdk/testing";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import type { CreateMemory } from "../src/index.ts";

export const createMemory: CreateMemory = (slots, written) => new SlottedGuestMemory(slots, written);

const DISK_BYTES = 1 << 20;
const mac = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);

/** A linear congruence: random enough to tell one answer from another. */
let seed = 1;
const entropy = {
  fill: (into: Uint8Array): void => {
    for (let i = 0; i < into.length; i++) into[i] = (seed = (seed * 1103515245 + 12345) & 0x7fff_ffff) >>> 16;
  },
};

export const memoryDisk = (readOnly = false): MemoryBlock =>
  new MemoryBlock(new Uint8Array(DISK_BYTES), { readOnly });

const stream: HostStream = {
  accepted: () => undefined,
  write: () => undefined,
  end: () => undefined,
  close: () => undefined,
  resume: () => undefined,
};

/** A host on which nobody listens. */
const nobody: VsockBackend = {
  connect: (_port, listener) => {
    queueMicrotask(() => {
      listener.closed();
    });
    return stream;
  },
  onConnect: () => undefined,
  close: () => Promise.resolve(),
};

const char = (): FakeCharBackend => new FakeCharBackend();

/** A file as memory: of no use behind a socket, whose front end has all the memory. */
export function pmem(): VirtioPmem {
  const memory = new FakeMemory(DISK_BYTES, 0x1000_0000);
  const [slot] = memory.slots;
  if (slot === undefined) throw new Error("unreachable: it has one slot");
  return new VirtioPmem({ slot, content: { flush: () => Promise.resolve(), stats: () => ({}) } });
}

/** A device of every kind that can be served, by name. */
export const devices: readonly [name: string, create: () => VirtioDevice][] = [
  ["VirtioBlk", () => new VirtioBlk({ backend: memoryDisk(), serial: "disk" })],
  ["VirtioBlk, read-only", () => new VirtioBlk({ backend: memoryDisk(true), serial: "disk", queues: 2 })],
  ["VirtioNet", () => new VirtioNet({ backend: new LoopbackNet(), mac })],
  ["VirtioRng", () => new VirtioRng({ entropy })],
  ["VirtioBalloon", () => new VirtioBalloon()],
  ["VirtioConsole", () => new VirtioConsole({ backend: char() })],
  [
    "VirtioConsole with ports",
    () =>
      new VirtioConsole({
        backend: char(),
        ports: [
          { name: "a", backend: char() },
          { name: "b", backend: char() },
        ],
      }),
  ],
  [
    "VirtioScsi",
    () =>
      new VirtioScsi({
        targets: [
          { type: "disk", backend: memoryDisk(), serial: "d" },
          { type: "cdRom", backend: memoryDisk(true), serial: "c" },
        ],
      }),
  ],
  [
    "VirtioFs",
    () => new VirtioFs({ tree: HostDirectory.open(import.meta.dirname, { readOnly: true }), tag: "t" }),
  ],
  ["VirtioInput", () => new VirtioInput({ kind: "keyboard" })],
  ["VirtioVsock", () => new VirtioVsock({ backend: nobody, cid: 3 })],
];
