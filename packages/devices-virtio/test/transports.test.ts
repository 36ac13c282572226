import { pciHost } from "@northbridge/devices-legacy";
import { Entropy, HostEnds, NorthbridgeError } from "@northbridge/sdk";
import { PciBus } from "@northbridge/sdk/pci";
import { VirtioTransport } from "@northbridge/sdk/virtio";
import { FakeDisk, FakeMachine, FakeMemory, SplitDriverQueue } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { virtioBlk, virtioInput, virtioNet, virtioRng, virtioScsi } from "@northbridge/devices-virtio";
import { entropy, OneSlot } from "./one-slot.ts";
import { virtioStructures } from "./virtio-structures.ts";

const BAR = 0xc000_0000;
const MSIX = 0xc001_0000;
// Capability types (virtio 1.3 §4.1.4).
const [COMMON, NOTIFY, ISR, , PCI_CFG] = [1, 2, 3, 4, 5];

async function onPci() {
  const bus = new OneSlot();
  const machine = new FakeMachine({ memory: new FakeMemory(1 << 20) });
  machine.provide(PciBus, bus).provide(Entropy, entropy);
  const device = await machine.add(virtioRng({}, { id: "rng" }));
  const fn = bus.fn!;
  fn.configWrite(0x20, 4, BAR); // BAR 4
  fn.configWrite(0x14, 4, MSIX); // BAR 1
  fn.configWrite(0x04, 2, 0x0006); // memory, bus master
  const { caps, msixCap } = virtioStructures(fn);
  const common = BAR + caps.get(COMMON)!.offset;
  const { mmio, memory } = machine;
  const driver = new SplitDriverQueue({ memory, gpa: 0x1000, size: 8 });
  /** The driver's way to DRIVER_OK (§3.1.1), accepting VERSION_1 alone. */
  const start = (): void => {
    for (const status of [0, 1, 3]) mmio.write(common + 0x14, 1, status);
    mmio.write(common + 0x08, 4, 1);
    mmio.write(common + 0x0c, 4, 1);
    mmio.write(common + 0x14, 1, 0x0b);
    mmio.write(common + 0x16, 2, 0);
    const { desc, driver: avail, device: used } = driver.addresses;
    [desc, avail, used].forEach((gpa, i) => {
      mmio.write(common + 0x20 + 8 * i, 4, gpa);
      mmio.write(common + 0x24 + 8 * i, 4, 0);
    });
    mmio.write(common + 0x1c, 2, 1);
    mmio.write(common + 0x14, 1, 0x0f);
  };
  const notify = (): void => {
    const multiplier = fn.configRead(caps.get(NOTIFY)!.at + 16, 4);
    mmio.write(BAR + caps.get(NOTIFY)!.offset + multiplier * mmio.read(common + 0x1e, 2), 2, 0);
  };
  return { machine, device, fn, caps, msixCap, common, mmio, memory, driver, start, notify };
}

describe("virtio over PCI", () => {
  it("is a modern entropy device by its IDs (§4.1.2)", async () => {
    const { fn, common, mmio } = await onPci();
    expect([fn.configRead(0, 2), fn.configRead(2, 2)]).toEqual([0x1af4, 0x1044]);
    expect(fn.configRead(8, 1)).toBeGreaterThanOrEqual(1);
    expect(mmio.read(common + 0x12, 2)).toBe(1); // num_queues
    mmio.write(common, 4, 1);
    expect(mmio.read(common + 4, 4) & 1).toBe(1); // VERSION_1
  });

  it("serves a queue and interrupts by INTx without MSI-X; reading ISR acknowledges (§4.1.4.5)", async () => {
    const { machine, caps, mmio, memory, driver, start, notify } = await onPci();
    start();
    const id = driver.add([], [{ gpa: 0x8000, length: 4 }]);
    notify();
    expect(driver.collect()).toEqual([{ id, written: 4 }]);
    expect(memory.readU32(0x8000)).toBe(0x5a5a_5a5a);
    expect(machine.gsi(17)).toBe(true);
    const isr = BAR + caps.get(ISR)!.offset;
    expect([mmio.read(isr, 1), machine.gsi(17), mmio.read(isr, 1)]).toEqual([1, false, 0]);
  });

  it("interrupts by the queue's vector with MSI-X (§4.1.5.1.2)", async () => {
    const { machine, fn, msixCap, common, mmio, driver, start, notify } = await onPci();
    mmio.write(MSIX + 16, 4, 0xfee0_1000);
    mmio.write(MSIX + 24, 4, 0x41);
    mmio.write(MSIX + 28, 4, 0);
    fn.configWrite(msixCap + 2, 2, 0x8000);
    start();
    mmio.write(common + 0x1a, 2, 9);
    expect(mmio.read(common + 0x1a, 2)).toBe(0xffff); // there is no vector 9
    mmio.write(common + 0x1a, 2, 1);
    expect(mmio.read(common + 0x1a, 2)).toBe(1);
    driver.add([], [{ gpa: 0x8000, length: 4 }]);
    notify();
    expect(machine.msi.messages).toEqual([{ address: 0xfee0_1000, data: 0x41 }]);
    expect(machine.gsi(17)).toBe(false);
  });

  it("shows its registers through the configuration space (§4.1.4.9)", async () => {
    const { fn, caps } = await onPci();
    const { at } = caps.get(PCI_CFG)!;
    const access = (offset: number, length: number): void => {
      fn.configWrite(at + 4, 1, 4);
      fn.configWrite(at + 8, 4, offset);
      fn.configWrite(at + 12, 4, length);
    };
    access(caps.get(COMMON)!.offset + 0x14, 1);
    fn.configWrite(at + 16, 1, 1);
    expect(fn.configRead(at + 16, 1)).toBe(1); // ACKNOWLEDGE
    access(caps.get(COMMON)!.offset + 0x12, 2);
    expect(fn.configRead(at + 16, 2)).toBe(1); // num_queues
  });

  it("reads no memory while it may not", async () => {
    const { fn, driver, start, notify } = await onPci();
    start();
    fn.configWrite(0x04, 2, 0x0002); // memory, no bus master
    driver.add([], [{ gpa: 0x8000, length: 4 }]);
    notify();
    expect(driver.collect()).toEqual([]);
  });

  it("refuses features it did not offer, and a driver without VERSION_1 (§2.2.2)", async () => {
    const { common, mmio } = await onPci();
    for (const [word, bits] of [
      [0, 1 << 3],
      [1, 0],
    ] as const) {
      for (const status of [0, 1, 3]) mmio.write(common + 0x14, 1, status);
      mmio.write(common + 0x08, 4, word);
      mmio.write(common + 0x0c, 4, bits);
      mmio.write(common + 0x14, 1, 0x0b);
      expect(mmio.read(common + 0x14, 1) & 0x08).toBe(0);
    }
  });

  it("keeps its queue where the driver resets it without RING_RESET (§2.6.1)", async () => {
    const { common, mmio, driver, start, notify } = await onPci();
    start();
    mmio.write(common + 0x3a, 2, 1); // RING_RESET was not accepted
    expect(mmio.read(common + 0x1c, 2)).toBe(1);
    driver.add([], [{ gpa: 0x8000, length: 4 }]);
    notify();
    expect(driver.collect()).toHaveLength(1);
  });

  it("goes on after a restore as if nothing had happened", async () => {
    const a = await onPci();
    a.start();
    a.driver.add([], [{ gpa: 0x8000, length: 4 }]);
    a.notify();
    const state: unknown = JSON.parse(JSON.stringify(a.device.save?.()));
    const b = await onPci();
    const bytes = new Uint8Array(1 << 20);
    a.memory.read(0, bytes);
    b.memory.write(0, bytes);
    b.fn.restore(JSON.parse(JSON.stringify(a.fn.save())) as ReturnType<typeof a.fn.save>);
    b.device.restore?.(state);
    expect(b.device.save?.()).toEqual(a.device.save?.());
    expect(b.machine.gsi(17)).toBe(true);
    for (const { memory, notify } of [a, b]) {
      // The second request, as the driver of either machine would make it.
      memory.writeU16(a.driver.addresses.driver + 6, 0);
      memory.writeU16(a.driver.addresses.driver + 2, 2);
      notify();
    }
    const used = (memory: FakeMachine["memory"]): number => memory.readU16(a.driver.addresses.device + 2);
    expect([used(a.memory), used(b.memory)]).toEqual([2, 2]);
  });
});

/** A device at 0xfeb00000 with its driver's queue 0, started. */
async function onMmio(machine: FakeMachine, entry: Parameters<FakeMachine["add"]>[0]) {
  const gpa = 0xfeb0_0000;
  await machine.add(entry);
  const { mmio, memory } = machine;
  const reg = (offset: number): number => mmio.read(gpa + offset, 4);
  const set = (offset: number, value: number): void => {
    mmio.write(gpa + offset, 4, value);
  };
  for (const status of [0, 1, 3]) set(0x70, status);
  set(0x24, 1);
  set(0x20, 1);
  set(0x70, 0x0b);
  expect(reg(0x70)).toBe(0x0b);
  const setUp = (ringGpa: number): SplitDriverQueue => {
    const queue = new SplitDriverQueue({ memory, gpa: ringGpa, size: 8 });
    set(0x38, queue.size);
    const { desc, driver, device } = queue.addresses;
    [desc, driver, device].forEach((area, i) => {
      set(0x80 + 0x10 * i, area);
      set(0x84 + 0x10 * i, 0);
    });
    set(0x44, 1);
    return queue;
  };
  const queue = setUp(0x1000);
  set(0x70, 0x0f);
  return { reg, set, setUp, queue };
}

describe("virtio over MMIO", () => {
  it("is found by ACPI and serves a queue with a level-triggered interrupt (§4.2)", async () => {
    const gpa = 0xfeb0_0000;
    const machine = new FakeMachine({ memory: new FakeMemory(1 << 20) });
    machine.provide(Entropy, entropy);
    const { reg, set, queue } = await onMmio(machine, virtioRng({ mmio: { gpa, gsi: 10 } }));
    expect(machine.firmware).toEqual([
      {
        kind: "acpiDevice",
        name: "VB00",
        hid: "LNRO0005",
        uid: 0xb00,
        mmio: [{ gpa, length: 0x1000 }],
        irqs: [{ gsi: 10, level: true, activeLow: false, shared: false }],
      },
    ]);
    expect([reg(0), reg(4), reg(8), reg(0x34)]).toEqual([0x7472_6976, 2, 4, 8]);
    const id = queue.add([], [{ gpa: 0x8000, length: 4 }]);
    set(0x50, 0);
    expect(queue.collect()).toEqual([{ id, written: 4 }]);
    expect([reg(0x60), machine.gsi(10)]).toEqual([1, true]);
    set(0x64, 1);
    expect([reg(0x60), machine.gsi(10)]).toEqual([0, false]);
  });

  it("reads a queue that is being stopped as ready until the host has let go of its buffers (§4.2.2.2)", async () => {
    const machine = new FakeMachine({ memory: new FakeMemory(1 << 20) });
    const disk = new FakeDisk(1 << 16, { clock: machine.clock });
    disk.bytes.fill(0xd1);
    disk.latencyNs = 1000;
    const never = (): Promise<never> => Promise.reject(new Error("not asked for"));
    const block = (): Promise<FakeDisk> => Promise.resolve(disk);
    machine.provide(HostEnds, { block, char: never, net: never, directory: never, vsock: never });
    const config = { disk: { kind: "fake" }, mmio: { gpa: 0xfeb0_0000, gsi: 10 } };
    const { reg, set, setUp, queue } = await onMmio(machine, virtioBlk(config));
    const { memory } = machine;
    const settle = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) await Promise.resolve();
    };
    const read = (each: SplitDriverQueue): number | undefined =>
      each.add(
        [{ gpa: 0x9000, length: 16 }],
        [
          { gpa: 0x8000, length: 512 },
          { gpa: 0xa000, length: 1 },
        ],
      );
    read(queue);
    set(0x50, 0);
    set(0x44, 0);
    await settle();
    expect([reg(0x44), memory.readU8(0x8000)]).toEqual([1, 0]); // the disk still has the buffer
    set(0x80, 0x4000); // too early for other addresses
    set(0x44, 1);
    machine.clock.advance(1000);
    await settle();
    expect([reg(0x44), memory.readU8(0x8000)]).toEqual([0, 0xd1]);
    expect([queue.collect(), reg(0x60), memory.readU8(0xa000)]).toEqual([[], 0, 0]); // nobody hears of it

    const again = setUp(0x4000);
    const id = read(again);
    set(0x50, 0);
    await settle();
    machine.clock.advance(1000);
    await settle();
    expect([again.collect(), reg(0x44)]).toEqual([[{ id, written: 513 }], 1]);
  });
});

describe("virtio devices at addresses", () => {
  it("have names of their own in the firmware's tables, wherever they are", async () => {
    const machine = new FakeMachine().provide(Entropy, entropy);
    for (const [gsi, gpa] of [0xfdb0_0000, 0xfeb0_0000, 0xfeb0_1000, 0xfcb0_1000].entries())
      await machine.add(virtioRng({ mmio: { gpa, gsi } }));
    const described = machine.firmware.filter((entry) => entry.kind === "acpiDevice");
    expect(described.map(({ name }) => name)).toEqual(["VB00", "VB01", "VB02", "VB03"]);
    expect(new Set(described.map(({ uid }) => uid)).size).toBe(4);
  });
});

describe("configs that are refused", () => {
  const refuse = (): Promise<never> =>
    Promise.reject(
      new NorthbridgeError("NB_CONFIG", "disk.img: cannot open for writing: there is no such file"),
    );
  const ends: HostEnds = { block: refuse, char: refuse, net: refuse, directory: refuse, vsock: refuse };

  it.each([
    ["virtioBlk", virtioBlk({ disk: { kind: "memory" }, onError: "stop" })],
    ["virtioScsi", virtioScsi({ targets: [{ disk: { kind: "memory" } }], onError: "stop" })],
  ])("%s that stops a machine where there is none", async (_name, entry) => {
    const machine = new FakeMachine()
      .provide(HostEnds, ends)
      .provide(VirtioTransport, { attach: () => ({}) });
    await expect(machine.add(entry)).rejects.toThrow(
      /onError: expected report where no machine runs, found stop/,
    );
  });

  it("a size of requests that its field does not hold", async () => {
    const block = (): Promise<FakeDisk> => Promise.resolve(new FakeDisk(1 << 20));
    const machine = new FakeMachine().provide(HostEnds, { ...ends, block });
    machine.provide(VirtioTransport, { attach: () => ({}) });
    const entry = (minIoSize: number) => virtioBlk({ disk: { kind: "memory" }, topology: { minIoSize } });
    await expect(machine.add(entry(65_536 * 512))).rejects.toThrow(
      /minIoSize: expected at most 65535 blocks/,
    );
    await machine.add(entry(65_535 * 512));
  });

  it.each([
    [
      "a disk that is not there",
      virtioBlk({ disk: { kind: "file", path: "disk.img" } }),
      /there is no such file/,
    ],
    ["a queue size that is none", virtioBlk({ disk: { kind: "memory" }, queueSize: 100 }), /power of two/],
    [
      "a multicast address",
      virtioNet({ link: { kind: "loopback" }, mac: "01:00:5e:00:00:01" }),
      /unicast MAC/,
    ],
    [
      "a legacy interface of a kind that has none",
      virtioInput({ kind: "mouse", transitional: true }),
      /transitional: expected false/,
    ],
    [
      "a legacy interface behind MMIO",
      virtioRng({ mmio: { gpa: 0xfeb0_0000, gsi: 10 }, transitional: true }),
      /transitional: expected none/,
    ],
    ["a serial that is too long", virtioBlk({ disk: { kind: "memory" }, serial: "x".repeat(21) }), /20/],
  ])("%s", async (_what, entry, message) => {
    const machine = new FakeMachine().provide(HostEnds, ends).provide(Entropy, entropy);
    await machine.add(pciHost());
    await expect(machine.add(entry)).rejects.toThrow(message);
  });
});
