import { virtioNet, virtioRng } from "@northbridge/devices-virtio";
import { type DeviceEntry, Entropy, HostEnds, type IoWidth } from "@northbridge/sdk";
import { PciBus } from "@northbridge/sdk/pci";
import { FakeMachine, FakeMemory, FakeNet } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { entropy, OneSlot } from "./one-slot.ts";

const MSIX = 0xc001_0000;

/** A transitional device; its driver is older than virtio 1.0 and takes these features (§4.1.4.10, §2.7.2). */
async function onLegacyPci(
  plugin: DeviceEntry,
  { features, hasVectors = false }: { readonly features: number; readonly hasVectors?: boolean },
) {
  const bus = new OneSlot();
  const net = new FakeNet();
  const machine = new FakeMachine({ memory: new FakeMemory(1 << 20) });
  const ends = { net: () => Promise.resolve(net) } as unknown as HostEnds;
  machine.provide(PciBus, bus).provide(Entropy, entropy).provide(HostEnds, ends);
  const device = await machine.add(plugin);
  const fn = bus.fn!;
  fn.configWrite(0x10, 4, 0x6000);
  fn.configWrite(0x14, 4, MSIX);
  fn.configWrite(0x04, 2, 0x0007); // I/O, memory, bus master
  if (hasVectors) {
    machine.mmio.write(MSIX + 16, 4, 0xfee0_1000);
    machine.mmio.write(MSIX + 24, 4, 0x41);
    machine.mmio.write(MSIX + 28, 4, 0);
    for (let at = fn.configRead(0x34, 1); at !== 0; at = fn.configRead(at + 1, 1)) {
      if (fn.configRead(at, 1) === 0x11) fn.configWrite(at + 2, 2, 0x8000);
    }
  }
  const { memory } = machine;
  const out = (register: number, width: IoWidth, value: number): void => {
    machine.ports.out(0x6000 + register, value, width);
  };
  const ask = (register: number, width: IoWidth): number => machine.ports.in(0x6000 + register, width);
  for (const status of [0, 1, 3]) out(0x12, 1, status);
  out(4, 4, features);
  /** Places queue `index` at a page: its available ring follows, its used ring is on a page of its own. */
  const place = (index: number, page: number) => {
    out(0x0e, 2, index);
    const size = ask(0x0c, 2);
    out(8, 4, page);
    const desc = page * 4096;
    const avail = desc + 16 * size;
    const used = (avail + 4 + 2 * size + 2 + 4095) & ~4095;
    let count = 0;
    return {
      used,
      offer: (gpa: number, length: number, flags: number): void => {
        memory.writeU32(desc, gpa);
        memory.writeU32(desc + 8, length);
        memory.writeU16(desc + 12, flags);
        memory.writeU16(avail + 4 + 2 * (count % size), 0);
        memory.writeU16(avail + 2, ++count);
        out(0x10, 2, index);
      },
    };
  };
  return { machine, device, fn, net, memory, out, ask, place };
}

describe("the legacy interface of a transitional PCI device", () => {
  it("has the IDs of one (§4.1.2.1)", async () => {
    const { fn } = await onLegacyPci(virtioRng({ transitional: true }), { features: 0 });
    expect([0, 2, 8, 0x2e].map((at) => fn.configRead(at, at === 8 ? 1 : 2))).toEqual([0x1af4, 0x1005, 0, 4]);
  });

  it("serves a driver that uses its queue before it says that it is ready (§3.1.2)", async () => {
    const { memory, out, ask, place, device, machine } = await onLegacyPci(
      virtioRng({ transitional: true }),
      {
        features: 0,
      },
    );
    const queue = place(0, 16);
    queue.offer(0x8000, 16, 2);
    expect(memory.readU16(queue.used + 2)).toBe(1);
    const state = JSON.parse(JSON.stringify(device.save?.())) as unknown;
    out(0x12, 1, 7);
    expect(ask(0x12, 1)).toBe(7);
    queue.offer(0x8000, 16, 2);
    expect(memory.readU16(queue.used + 2)).toBe(2);
    out(0x12, 1, 0);
    machine.memory.writeU16(queue.used + 2, 1);
    device.restore?.(state);
    queue.offer(0x8000, 16, 2);
    expect(memory.readU16(queue.used + 2)).toBe(3); // two and one: it goes on where it was saved
  });

  it("serves a queue of its layout, and the ISR acknowledges INTx", async () => {
    const { machine, memory, out, ask, place } = await onLegacyPci(virtioRng({ transitional: true }), {
      features: 0xffff_ffff,
    });
    const queue = place(0, 4);
    out(0x12, 1, 7);
    expect([ask(0x12, 1), ask(8, 4), ask(4, 4)]).toEqual([7, 4, 0x3000_0000]); // those it offers
    queue.offer(0x8100, 4, 2);
    expect([memory.readU16(queue.used + 2), memory.readU32(queue.used + 8)]).toEqual([1, 4]);
    expect(memory.readU32(0x8100)).toBe(0x5a5a_5a5a);
    expect([machine.gsi(17), ask(0x13, 1), machine.gsi(17), ask(0x13, 1)]).toEqual([true, 1, false, 0]);
    out(0x0e, 2, 0);
    out(8, 4, 0); // no queue any more
    queue.offer(0x8200, 4, 2);
    expect([memory.readU16(queue.used + 2), ask(8, 4)]).toEqual([1, 0]);
    out(0x12, 1, 0);
    expect([ask(0x12, 1), ask(4, 4)]).toEqual([0, 0]);
  });

  it("has registers of vectors in front of the configuration with MSI-X", async () => {
    const entry = virtioNet({ link: { kind: "loopback" }, mac: "52:54:00:01:02:03", transitional: true });
    const without = await onLegacyPci(entry, { features: 0 });
    expect([without.ask(0x14, 1), without.ask(0x19, 1)]).toEqual([0x52, 3]);
    const { machine, out, ask, place } = await onLegacyPci(entry, { features: 0, hasVectors: true });
    expect([ask(0x14, 2), ask(0x18, 1), ask(0x1d, 1)]).toEqual([0xffff, 0x52, 3]);
    const queue = place(1, 4);
    out(0x16, 2, 1);
    expect(ask(0x16, 2)).toBe(1);
    out(0x12, 1, 7);
    queue.offer(0x8100, 100, 0);
    expect(machine.msi.messages).toEqual([{ address: 0xfee0_1000, data: 0x41 }]);
  });

  it("has frames without num_buffers where none are merged (§5.1.6.1)", async () => {
    const { net, memory, out, place } = await onLegacyPci(
      virtioNet({ link: { kind: "loopback" }, transitional: true }),
      { features: 0 },
    );
    const [receive, transmit] = [place(0, 4), place(1, 0x10)];
    out(0x12, 1, 7);
    const frame = Uint8Array.from({ length: 60 }, (_, i) => (i < 6 ? 0xff : i));
    memory.write(0x8_0000, new Uint8Array(10));
    memory.write(0x8_000a, frame);
    transmit.offer(0x8_0000, 70, 0);
    expect(net.sent).toEqual([frame]);
    receive.offer(0x9_0000, 2000, 2);
    net.deliver(frame);
    expect(memory.readU32(receive.used + 8)).toBe(70);
    expect(memory.view(0x9_000a, 60)).toEqual(frame);
  });

  it("goes on after a restore", async () => {
    const entry = virtioRng({ transitional: true }, { id: "rng" });
    const a = await onLegacyPci(entry, { features: 0 });
    const queue = a.place(0, 4);
    a.out(0x12, 1, 7);
    queue.offer(0x8100, 4, 2);
    const b = await onLegacyPci(entry, { features: 0 });
    b.memory.write(0, a.memory.view(0, 1 << 20)!);
    b.fn.restore(a.fn.save());
    b.device.restore?.(JSON.parse(JSON.stringify(a.device.save?.())));
    expect(b.device.save?.()).toEqual(a.device.save?.());
    b.memory.writeU16(0x4000 + 16 * b.ask(0x0c, 2) + 2, 2); // the same request once more
    b.out(0x10, 2, 0);
    expect(b.memory.readU16(queue.used + 2)).toBe(2);
  });
});
