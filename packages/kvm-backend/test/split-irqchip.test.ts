import type * as linux from "@northbridge/linux";
import { OwnedDescriptor } from "@northbridge/linux";
import { expect, it, vi } from "vitest";
import { Request } from "../src/abi/spec.ts";
import { SplitIrqchip } from "../src/vm/split-irqchip.ts";

/** What the kernel was told last: the data of each GSI's message. */
let routes = new Map<number, number>();
let routings = 0;

vi.mock("@northbridge/linux", async (original) => ({
  ...(await original<typeof linux>()),
  ioctl: () => 1024,
  ioctlBuffer: (_fd: number, request: number, { view }: { readonly view: DataView }) => {
    if (request !== Request.KVM_SET_GSI_ROUTING) return 0;
    routings++;
    routes = new Map();
    // kvm_irq_routing: a number, flags, entries of 48 bytes (GSI, type, flags, pad, union).
    for (let i = 0; i < view.getUint32(0, true); i++)
      routes.set(view.getUint32(8 + 48 * i, true), view.getUint32(8 + 48 * i + 24, true));
    return 0;
  },
}));

const IOAPIC = 0xfec00000;
const [PIN, VECTOR] = [16, 0x40];
/** Bits of a redirection entry and of a message's data (82093AA §3.2.4, SDM 3A §11.11.2). */
const [LEVEL, MASKED, REMOTE_IRR, ASSERT] = [1 << 15, 1 << 16, 1 << 14, 1 << 14];

it("hears of the end of a level-triggered interrupt whose pin was masked before", () => {
  const vm = new OwnedDescriptor(-1, "no VM");
  const bus = { read: () => 0, write: () => undefined };
  const irqchip = new SplitIrqchip(vm, { ports: bus, mmio: bus, asserted: () => undefined });
  const { mmio, endOfInterrupt } = irqchip.outside;
  const write = (value: number): void => {
    mmio.write(IOAPIC, 4, 0x10 + 2 * PIN);
    mmio.write(IOAPIC + 0x10, 4, value);
  };
  const entry = (): number => mmio.read(IOAPIC + 0x10, 4);
  write(LEVEL | VECTOR);
  irqchip.setIrq(PIN, true);
  expect(entry()).toBe(LEVEL | REMOTE_IRR | VECTOR);
  const before = routings;
  write(MASKED | LEVEL | VECTOR);
  expect(routes.get(PIN)).toBe(LEVEL | ASSERT | VECTOR);
  endOfInterrupt(VECTOR);
  expect(entry()).toBe(MASKED | LEVEL | VECTOR);
  write(LEVEL | VECTOR);
  expect(entry()).toBe(LEVEL | REMOTE_IRR | VECTOR);
  expect(routings).toBe(before);

  // Also where it was masked when it was saved.
  write(MASKED | LEVEL | VECTOR);
  const other = new SplitIrqchip(vm, { ports: bus, mmio: bus, asserted: () => undefined });
  other.restore(structuredClone(irqchip.save()));
  expect(routes.get(PIN)).toBe(LEVEL | ASSERT | VECTOR);
});
