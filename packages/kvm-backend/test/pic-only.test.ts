import { I8254 } from "@northbridge/devices-legacy";
import type { VirtualMachine } from "@northbridge/sdk";
import { softHypervisor } from "@northbridge/soft-backend";
import { afterEach, describe, expect, it } from "vitest";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(
  code: readonly number[] = [],
  options: Parameters<typeof RealModeGuest.create>[1] = { irqchip: "none" },
): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code, options);
  open.add(guest.vm);
  return guest;
}

const COUNT = 0x2000;
const SEEN = 0x2010;
const DONE = 0xe1;
const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];
const CLI = 0xfa;
const STI = 0xfb;
const HLT = 0xf4;
const NOP = 0x90;
const bell = (port: number): number[] => [0xe6, port];
/** MOV WORD [at], value. */
const put = (at: number, value: number): number[] => [
  0xc7,
  0x06,
  at & 0xff,
  at >> 8,
  value & 0xff,
  value >> 8,
];
const HANDLER = 0x1200;
/** INC WORD [COUNT]; end of interrupt; IRET. */
const COUNTING = [0xff, 0x06, COUNT & 0xff, COUNT >> 8, ...out(0x20, 0x20), 0xcf];
/** CMP WORD [COUNT], 0; JE to it. */
const UNTIL_COUNTED = [0x83, 0x3e, COUNT & 0xff, COUNT >> 8, 0, 0x74, 0xf9];
/** Stack; the 8259 pair with vectors from 20h; inputs 0 and 4 open; both to the handler. */
const SET_UP = [
  ...[CLI, 0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x70],
  ...[...out(0x20, 0x11), ...out(0xa0, 0x11), ...out(0x21, 0x20), ...out(0xa1, 0x28)],
  ...[...out(0x21, 0x04), ...out(0xa1, 0x02), ...out(0x21, 0x01), ...out(0xa1, 0x01)],
  ...[...out(0x21, 0xee), ...out(0xa1, 0xff)],
  ...[0x20, 0x24].flatMap((vector) => [...put(4 * vector, HANDLER), ...put(4 * vector + 2, 0)]),
];

async function createWith(code: readonly number[]): Promise<RealModeGuest> {
  const guest = await create([...SET_UP, ...code]);
  guest.ram.set(COUNTING, HANDLER);
  return guest;
}

/** Runs until the guest writes to the port. */
async function runTo(guest: RealModeGuest, port: number, then = (): void => undefined): Promise<void> {
  const unmap = guest.mapPorts(
    { base: port, length: 1 },
    {
      read: () => 0,
      write: () => {
        then();
        guest.vcpu.kick();
      },
    },
  );
  expect(await guest.vcpu.run()).toEqual({ kind: "interrupted" });
  unmap();
}

/** Runs a guest that is about to halt until it does. */
async function runToHalt(guest: RealModeGuest): Promise<void> {
  do {
    const run = guest.vcpu.run();
    await new Promise((resolve) => setTimeout(resolve, 1));
    guest.vcpu.kick();
    expect(await run).toEqual({ kind: "interrupted" });
  } while (guest.vcpu.getState().mpState !== "halted");
}

/** Everything of one machine but its devices. */
function move(from: RealModeGuest, to: RealModeGuest): void {
  to.ram.set(from.ram);
  to.vm.memoryWritten(0, to.ram.length);
  to.vm.irqchip.restore(structuredClone(from.vm.irqchip.save()));
  to.vcpu.setState(structuredClone(from.vcpu.getState()));
}

describe.skipIf(!hasKvm)("a machine without interrupt controllers in the kernel", () => {
  it("is woken from HLT by the 8254 through the 8259 pair, once for each edge", async () => {
    const TICKS = 10;
    // 100 Hz; STI; HLT; CMP WORD [COUNT], TICKS; JB to HLT; CLI; OUT.
    const loop = [HLT, 0x83, 0x3e, COUNT & 0xff, COUNT >> 8, TICKS, 0x72, 0xf8];
    const program = [...out(0x43, 0x34), ...out(0x40, 0x9c), ...out(0x40, 0x2e)];
    const guest = await createWith([...program, STI, ...loop, CLI, ...bell(DONE)]);
    const timer = new I8254({
      clock: guest.clock,
      irq: { set: (level) => guest.vm.setIrq(0, level), adopt: () => undefined },
    });
    guest.mapPorts({ base: 0x40, length: I8254.PORT_COUNT }, timer);
    await runTo(guest, DONE);
    expect(guest.word(COUNT)).toBe(TICKS);
  });

  it("holds an interrupt while IF is clear, and takes it behind STI", async () => {
    const seen = [0xa1, COUNT & 0xff, COUNT >> 8, 0xa3, SEEN & 0xff, SEEN >> 8]; // MOV AX, [COUNT]; MOV [SEEN], AX
    const guest = await createWith([
      ...[...bell(0xe0), NOP, NOP, ...seen, STI, ...UNTIL_COUNTED, ...bell(DONE)],
    ]);
    const raise = { read: () => 0, write: () => guest.vm.setIrq(4, true) };
    guest.mapPorts({ base: 0xe0, length: 1 }, raise);
    await runTo(guest, DONE);
    expect([guest.word(SEEN), guest.word(COUNT)]).toEqual([0, 1]);
  });

  it("interrupts a guest that executes", async () => {
    const guest = await createWith([STI, ...bell(0xe0), ...UNTIL_COUNTED, ...bell(DONE)]);
    const late = { read: () => 0, write: () => void setTimeout(() => guest.vm.setIrq(4, true), 5) };
    guest.mapPorts({ base: 0xe0, length: 1 }, late);
    await runTo(guest, DONE);
    expect(guest.word(COUNT)).toBe(1);
  });

  it("halts for good with IF clear, and goes on doing so", async () => {
    const { vcpu } = await createWith([HLT]);
    expect(await vcpu.run()).toEqual({ kind: "halt" });
    expect(vcpu.getState().mpState).toBe("halted");
    expect(await vcpu.run()).toEqual({ kind: "halt" });
  });

  it("moves while it waits for an interrupt: to another one, to the software CPU, and back", async () => {
    const guests = [
      await createWith([STI, ...bell(0xe0), HLT, ...bell(0xe2), HLT, ...bell(0xe3), HLT, ...bell(0xe4)]),
      await create(),
      await create([], { hypervisor: softHypervisor() }),
      await create(),
    ] as const;
    await runTo(guests[0], 0xe0);
    await runToHalt(guests[0]);
    for (const [i, port] of [
      [1, 0xe2],
      [2, 0xe3],
      [3, 0xe4],
    ] as const) {
      const [from, to] = [guests[i - 1]!, guests[i]];
      move(from, to);
      expect(to.word(COUNT)).toBe(i - 1);
      to.vm.setIrq(4, true);
      await runTo(to, port, () => {
        to.vm.setIrq(4, false);
      });
      expect(to.word(COUNT)).toBe(i);
      if (i < 3) await runToHalt(to);
    }
  });

  it("is told of no local APIC, and has one processor", async () => {
    // MOV EAX, 1; CPUID; MOV [COUNT], EDX; MOV [SEEN], ECX; OUT.
    const guest = await create([
      ...[0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x66, 0x89, 0x16, COUNT & 0xff, COUNT >> 8],
      ...[0x66, 0x89, 0x0e, SEEN & 0xff, SEEN >> 8, ...bell(DONE)],
    ]);
    await runTo(guest, DONE);
    const APIC = 1 << 9;
    const X2APIC_AND_DEADLINE = (1 << 21) | (1 << 24);
    const view = new DataView(guest.ram.buffer, guest.ram.byteOffset);
    expect(view.getUint32(COUNT, true) & APIC).toBe(0);
    expect(view.getUint32(SEEN, true) & X2APIC_AND_DEADLINE).toBe(0);
    expect(guest.vcpu.getState().sregs.apicBase & 0x800n).toBe(0n);
    const claims = guest.vm.cpuModel!.leaves.find(({ leaf }) => leaf === 1)!;
    expect([claims.edx & APIC, claims.ecx & X2APIC_AND_DEADLINE]).toEqual([0, 0]);
    await expect(create([], { irqchip: "none", vcpus: 2 })).rejects.toThrow(
      "vcpus: without local APICs (irqchip none) a machine has 1, found 2",
    );
  });

  it("refuses a state whose local APIC is on", async () => {
    const [guest, other] = [await create(), await create([], {})];
    expect(() => {
      guest.vcpu.setState(other.vcpu.getState());
    }).toThrow(
      "expected a processor whose local APIC is off, as there is none here, found sregs.apicBase 0xfee00900",
    );
  });
});
