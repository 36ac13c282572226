import { LoopbackNet, MemoryBlock, SlottedGuestMemory } from "@northbridge/core";
import { VirtioBalloon, VirtioBlk, VirtioNet, VirtioRng } from "@northbridge/devices-virtio";
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

/** A device of every kind there is, by name. */
export const devices: readonly [name: string, create: () => VirtioDevice][] = [
  ["VirtioBlk", () => new VirtioBlk({ backend: memoryDisk(), serial: "disk" })],
  ["VirtioBlk, read-only", () => new VirtioBlk({ backend: memoryDisk(true), serial: "disk", queues: 2 })],
  ["VirtioNet", () => new VirtioNet({ backend: new LoopbackNet(), mac })],
  ["VirtioRng", () => new VirtioRng({ entropy })],
  ["VirtioBalloon", () => new VirtioBalloon()],
];
