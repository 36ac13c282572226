import { virtioBlk } from "@northbridge/devices-virtio";
import { HostEnds } from "@northbridge/sdk";
import { PciBus } from "@northbridge/sdk/pci";
import { FakeDisk, FakeMachine, FakeMemory, SplitDriverQueue } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { OneSlot } from "./one-slot.ts";
import { Structure, virtioStructures } from "./virtio-structures.ts";

const LATENCY_NS = 1000;
/** Bits 32 to 63 of the features (virtio 1.3 §6): VERSION_1, NOTIFICATION_DATA, RING_RESET. */
const HIGH_FEATURES = (1 << 0) | (1 << 6) | (1 << 8);

/** What a driver does to one queue, in the registers of its transport. */
interface QueueControl {
  setStatus(status: number): void;
  status(): number;
  /** Accepts features: bits 32 to 63, none of the lower ones. */
  accept(high: number): void;
  select(queue: number): void;
  setSize(size: number): void;
  /** Descriptor, driver and device area. */
  setArea(area: number, gpa: number): void;
  area(area: number): number;
  enable(): void;
  isEnabled(): number;
  reset(): void;
  isResetting(): number;
  /** The whole 32 bits of a notification (§4.1.5.2, §4.2.3.3). */
  notify(queue: number, data: number): void;
}

interface Built {
  readonly machine: FakeMachine;
  readonly disk: FakeDisk;
  readonly control: QueueControl;
}

function machineWithDisk(): { readonly machine: FakeMachine; readonly disk: FakeDisk } {
  const machine = new FakeMachine({ memory: new FakeMemory(1 << 20) });
  const disk = new FakeDisk(1 << 16, { clock: machine.clock });
  disk.bytes.fill(0xd1);
  disk.latencyNs = LATENCY_NS;
  const never = (): Promise<never> => Promise.reject(new Error("not asked for"));
  const block = (): Promise<FakeDisk> => Promise.resolve(disk);
  machine.provide(HostEnds, { block, char: never, net: never, directory: never, vsock: never });
  return { machine, disk };
}

async function onPci(): Promise<Built> {
  const { machine, disk } = machineWithDisk();
  const bus = new OneSlot();
  machine.provide(PciBus, bus);
  await machine.add(virtioBlk({ disk: { kind: "fake" } }));
  const fn = bus.fn!;
  const bar = 0xc000_0000;
  fn.configWrite(0x20, 4, bar);
  fn.configWrite(0x04, 2, 0x0006); // memory, bus master
  const { caps } = virtioStructures(fn);
  const common = bar + caps.get(Structure.COMMON)!.offset;
  const notifier = caps.get(Structure.NOTIFY)!;
  const { mmio } = machine;
  const control: QueueControl = {
    setStatus: (status) => {
      mmio.write(common + 0x14, 1, status);
    },
    status: () => mmio.read(common + 0x14, 1),
    accept: (high) => {
      mmio.write(common + 0x08, 4, 1);
      mmio.write(common + 0x0c, 4, high);
    },
    select: (queue) => {
      mmio.write(common + 0x16, 2, queue);
    },
    setSize: (size) => {
      mmio.write(common + 0x18, 2, size);
    },
    setArea: (area, gpa) => {
      mmio.write(common + 0x20 + 8 * area, 4, gpa);
    },
    area: (area) => mmio.read(common + 0x20 + 8 * area, 4),
    enable: () => {
      mmio.write(common + 0x1c, 2, 1);
    },
    isEnabled: () => mmio.read(common + 0x1c, 2),
    reset: () => {
      mmio.write(common + 0x3a, 2, 1);
    },
    isResetting: () => mmio.read(common + 0x3a, 2),
    notify: (queue, data) => {
      const multiplier = fn.configRead(notifier.at + 16, 4);
      mmio.write(bar + notifier.offset + multiplier * queue, 4, data);
    },
  };
  return { machine, disk, control };
}

async function onMmio(): Promise<Built> {
  const { machine, disk } = machineWithDisk();
  const gpa = 0xfeb0_0000;
  await machine.add(virtioBlk({ disk: { kind: "fake" }, mmio: { gpa, gsi: 10 } }));
  const { mmio } = machine;
  const set = (offset: number, value: number): void => {
    mmio.write(gpa + offset, 4, value);
  };
  const control: QueueControl = {
    setStatus: (status) => {
      set(0x70, status);
    },
    status: () => mmio.read(gpa + 0x70, 4),
    accept: (high) => {
      set(0x24, 1);
      set(0x20, high);
    },
    select: (queue) => {
      set(0x30, queue);
    },
    setSize: (size) => {
      set(0x38, size);
    },
    setArea: (area, at) => {
      set(0x80 + 0x10 * area, at);
    },
    area: () => 0, // those registers are write-only (§4.2.2)
    enable: () => {
      set(0x44, 1);
    },
    isEnabled: () => mmio.read(gpa + 0x44, 4),
    reset: () => {
      set(0xc0, 1);
    },
    isResetting: () => mmio.read(gpa + 0xc0, 4),
    notify: (_queue, data) => {
      set(0x50, data);
    },
  };
  return { machine, disk, control };
}

/** A driver that has started a disk with notification data and queue reset. */
async function started(build: () => Promise<Built>) {
  const { machine, disk, control } = await build();
  const { memory, clock } = machine;
  for (const status of [0, 1, 3]) control.setStatus(status);
  control.accept(HIGH_FEATURES);
  control.setStatus(0x0b);
  expect(control.status()).toBe(0x0b);
  const setUp = (gpa: number, size: number): SplitDriverQueue => {
    const queue = new SplitDriverQueue({ memory, gpa, size });
    control.select(0);
    control.setSize(size);
    const { desc, driver, device } = queue.addresses;
    [desc, driver, device].forEach((area, i) => {
      control.setArea(i, area);
    });
    control.enable();
    return queue;
  };
  /** Offers a read of the first sector to 0x8000, and says in the notification how far the ring is (§2.9). */
  let offered = 0;
  const read = (queue: SplitDriverQueue): number | undefined => {
    const id = queue.add(
      [{ gpa: 0x9000, length: 16 }],
      [
        { gpa: 0x8000, length: 512 },
        { gpa: 0xa000, length: 1 },
      ],
    );
    control.notify(0, (++offered << 16) | 0);
    return id;
  };
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const answer = async (): Promise<void> => {
    await settle();
    clock.advance(LATENCY_NS);
    await settle();
  };
  const queue = setUp(0x1000, 8);
  control.setStatus(0x0f);
  const forget = (): void => {
    offered = 0;
  };
  return { memory, disk, control, queue, setUp, read, settle, answer, forget };
}

describe.each([
  ["PCI", onPci],
  ["MMIO", onMmio],
] as const)("over %s", (name, build) => {
  it("serves requests whose notifications say how far the ring is (§2.9)", async () => {
    const { queue, read, answer, memory } = await started(build);
    // More than the ring has places for: what stands in the upper half is no queue's number.
    for (let i = 0; i < 20; i++) {
      memory.writeU8(0x8000, 0);
      const id = read(queue);
      await answer();
      expect([queue.collect(), memory.readU8(0x8000)]).toEqual([[{ id, written: 513 }], 0xd1]);
    }
  });

  it("resets one queue while the host has a request of it, and serves it again elsewhere (§2.6.1)", async () => {
    const { memory, disk, control, queue, setUp, read, settle, answer, forget } = await started(build);
    read(queue);
    await settle();
    control.select(0);
    control.reset();
    // Not done while the host may still write into the driver's memory.
    expect([control.isResetting(), memory.readU8(0x8000)]).toEqual([1, 0]);
    control.enable(); // too early
    await answer();
    expect([control.isResetting(), control.isEnabled(), memory.readU8(0x8000)]).toEqual([0, 0, 0xd1]);
    expect([queue.collect(), memory.readU8(0xa000)]).toEqual([[], 0]); // nobody hears of it
    if (name === "PCI") expect([0, 1, 2].map((area) => control.area(area))).toEqual([0, 0, 0]);

    // The old ring is dead.
    read(queue);
    await answer();
    expect(queue.collect()).toEqual([]);
    expect(control.status()).toBe(0x0f); // and the device goes on

    disk.bytes.fill(0xd2);
    forget();
    const again = setUp(0x4000, 4);
    expect(control.isEnabled()).toBe(1);
    for (let i = 0; i < 10; i++) {
      const id = read(again);
      await answer();
      expect([again.collect(), memory.readU8(0x8000)]).toEqual([[{ id, written: 513 }], 0xd2]);
    }
    expect(queue.collect()).toEqual([]);
  });
});
