import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import type { InterruptEvent, VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const LAPIC = 0xfee00000;
const SVR = 0xf0;
const FIRST = { vector: 0x45, handler: 0x3000, count: 0x2000 };
const SECOND = { vector: 0x46, handler: 0x3100, count: 0x2002 };
/** STI; JMP to itself. */
const SPIN = [0xfb, 0xeb, 0xfe];
/** INC word [count]; MOV dword ES:[0B0h], 0, which is the local APIC's EOI; IRET. */
const handler = (count: number): number[] => [
  ...[0xff, 0x06, count & 0xff, count >> 8],
  ...[0x66, 0x26, 0xc7, 0x06, 0xb0, 0x00, 0, 0, 0, 0, 0xcf],
];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

/** A machine that counts the interrupts of two vectors. */
async function create(): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(SPIN);
  open.add(guest.vm);
  for (const { vector, handler: at, count } of [FIRST, SECOND]) {
    guest.ram.set(handler(count), at);
    guest.ram.set([at & 0xff, at >> 8, 0, 0], 4 * vector);
  }
  guest.vm.memoryWritten(0, guest.ram.length);
  const { lapic: text, regs, sregs, ...rest } = guest.vcpu.getState();
  const lapic = Buffer.from(text, "base64");
  lapic.writeUInt32LE(0x1ff, SVR);
  guest.vcpu.setState({
    ...rest,
    regs: { ...regs, rsp: 0x8000n },
    sregs: { ...sregs, es: { ...sregs.es, base: BigInt(LAPIC) } },
    lapic: lapic.toString("base64"),
  });
  return guest;
}

/** Another process adds 1 to the event. */
const signal = async ({ fd }: InterruptEvent): Promise<void> => {
  const child = spawn("sh", ["-c", String.raw`printf '\001\0\0\0\0\0\0\0' >&3`], {
    stdio: ["ignore", "ignore", "ignore", fd],
  });
  const code = await new Promise((resolve) => child.once("exit", resolve));
  expect(code).toBe(0);
};

/** Looks without giving the event loop a turn: whatever happens, happens without it. */
function spinUntil(condition: () => boolean): void {
  for (const until = performance.now() + 20_000; !condition(); )
    if (performance.now() > until) throw new Error("nothing happened for 20 s");
}

describe.skipIf(!hasKvm)("events that are interrupts (irqfd)", () => {
  it("reach the guest from another process, without the machine thread, as the message they stand for", async () => {
    const guest = await create();
    const event = guest.vm.msi.event!(LAPIC, FIRST.vector)!;
    const run = guest.vcpu.run();
    for (let round = 1; round <= 5; round++) {
      await signal(event);
      spinUntil(() => guest.word(FIRST.count) === round);
    }
    event.route(LAPIC, SECOND.vector);
    await signal(event);
    spinUntil(() => guest.word(SECOND.count) === 1);
    guest.vcpu.kick();
    expect(await run).toEqual({ kind: "interrupted" });
    expect(guest.word(FIRST.count)).toBe(5);
  });

  it("do not disturb each other, and go with the machine", async () => {
    const guest = await create();
    const [first, second] = [FIRST, SECOND].map(({ vector }) => guest.vm.msi.event!(LAPIC, vector)!);
    first!.close();
    first!.close();
    const run = guest.vcpu.run();
    await signal(second!);
    spinUntil(() => guest.word(SECOND.count) === 1);
    expect(guest.word(FIRST.count)).toBe(0);
    guest.vcpu.kick();
    await run;
    const { fd } = second!;
    await guest.vm.close();
    expect(() => fstatSync(fd)).toThrow(/EBADF/);
  });
});
