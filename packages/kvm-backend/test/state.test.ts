import { close, open as openFile, OpenFlag } from "@northbridge/linux";
import type { VcpuState, VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { supportedCpuid } from "../src/abi/cpuid.ts";
import type { KvmOptions } from "../src/index.ts";
import { Apic, bytes, LAPIC, setApic } from "./real-mode-code.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const SPIN = [0xeb, 0xfe];
/** XCR0: x87, SSE and AVX (SDM 3A §2.6). */
const XCR0_AVX = 7n;
const XSTATE_BV = 512;
/** Upper halves of YMM0–15 in the standard format (SDM 1 §13.5.2). */
const AVX = 576;

function hasAvx(): boolean {
  if (!hasKvm) return false;
  const kvm = openFile("/dev/kvm", OpenFlag.O_RDWR);
  try {
    return supportedCpuid(kvm).some(({ leaf, ecx }) => leaf === 1 && (ecx & (1 << 28)) !== 0);
  } finally {
    close(kvm);
  }
}
if (!hasAvx()) console.log("the test of AVX state skips: KVM shows guests no AVX here");

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(
  options: KvmOptions & { readonly vcpus?: number } = {},
  code: readonly number[] = SPIN,
): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code, options);
  open.add(guest.vm);
  return guest;
}

/** With XMM0 and the upper half of YMM0 full of a pattern. */
function withYmm0(state: VcpuState, area: Buffer): VcpuState {
  area.fill(0x5a, 160, 176);
  area.fill(0xa5, AVX, AVX + 16);
  area.writeBigUInt64LE(XCR0_AVX, XSTATE_BV);
  return {
    ...state,
    xcr0: XCR0_AVX,
    fxsave: area.subarray(0, 512).toString("base64"),
    xsave: area.toString("base64"),
  };
}

describe.skipIf(!hasKvm)("a processor's state under KVM", () => {
  it("comes back as it was set, and runs on", async () => {
    const { vcpu } = await create();
    const before = vcpu.getState();
    expect(before.xsave).toBeUndefined();
    vcpu.setState(before);
    const after = vcpu.getState();
    expect({ ...after, tsc: 0n, msrs: [] }).toEqual({ ...before, tsc: 0n, msrs: [] });
    const run = vcpu.run();
    vcpu.kick();
    expect(await run).toEqual({ kind: "interrupted" });
  });

  it.skipIf(!hasAvx())("has the registers of AVX, and moves with them", async () => {
    const [first, second] = [await create(), await create()];
    const full = withYmm0(first.vcpu.getState(), Buffer.alloc(4096));
    first.vcpu.setState(full);
    const saved = first.vcpu.getState();
    const area = Buffer.from(saved.xsave!, "base64");
    expect(saved.xcr0).toBe(XCR0_AVX);
    expect([...area.subarray(AVX, AVX + 16)]).toEqual(new Array(16).fill(0xa5));
    second.vcpu.setState(structuredClone(saved));
    expect(second.vcpu.getState()).toMatchObject({
      xcr0: XCR0_AVX,
      xsave: saved.xsave,
      fxsave: saved.fxsave,
    });
    // What is set without it is in its initial state.
    const { xsave: _, ...without } = saved;
    second.vcpu.setState(without);
    expect(second.vcpu.getState().xsave).toBeUndefined();
  });

  it("is refused by the names of the components that this KVM has not", async () => {
    const { vcpu } = await create();
    const state = vcpu.getState();
    const area = Buffer.alloc(4096);
    area.writeBigUInt64LE((1n << 40n) | 3n, XSTATE_BV);
    expect(() => {
      vcpu.setState({ ...state, xcr0: (1n << 40n) | 3n });
    }).toThrow(/^vCPU 0: .*KVM refuses extended state of x87, sse, component 40$/);
    expect(() => {
      vcpu.setState({ ...state, xsave: area.toString("base64") });
    }).toThrow(/^vCPU 0: .*KVM refuses extended state of x87, sse, component 40$/);
    expect(() => {
      vcpu.setState({ ...state, xsave: "" });
    }).toThrow(/^vCPU 0: xsave: .*expected 4096 bytes of base64, found 0$/);
  });

  it("is refused by the name of what is damaged", async () => {
    const { vcpu } = await create();
    const state = vcpu.getState();
    const damaged = { ...state, regs: { ...state.regs, rip: 1 } } as unknown as VcpuState;
    expect(() => {
      vcpu.setState(damaged);
    }).toThrow(/^vCPU 0\.regs\.rip: .*expected an unsigned integer of 64 bits, found 1$/);
  });

  it("has an exception that was being delivered, which is delivered where it goes on", async () => {
    const [first, second] = [await create(), await create()];
    const HANDLER = 0x3000;
    const UNDEFINED_OPCODE = 6;
    const state = first.vcpu.getState();
    first.vcpu.setState({ ...state, events: { ...state.events, exception: { vector: UNDEFINED_OPCODE } } });
    const saved = first.vcpu.getState();
    expect(saved.events.exception).toEqual({ vector: UNDEFINED_OPCODE });
    // OUT 0E0h, AL; JMP to itself. The real-mode table points there.
    second.ram.set([0xe6, 0xe0, 0xeb, 0xfe], HANDLER);
    second.ram.set([HANDLER & 0xff, HANDLER >> 8, 0, 0], 4 * UNDEFINED_OPCODE);
    second.vm.memoryWritten(0, 0x10000);
    second.mapPorts({ base: 0xe0, length: 1 }, { read: () => 0, write: () => second.vcpu.kick() });
    second.vcpu.setState({ ...saved, regs: { ...saved.regs, rsp: 0x8000n } });
    expect(await second.vcpu.run()).toEqual({ kind: "interrupted" });
    expect(second.vcpu.getState().regs.rip).toBe(BigInt(HANDLER + 2));
    expect(second.vcpu.getState().events.exception).toBeUndefined();
  });

  it("requests an interrupt again that the local APIC has handed out and that was not delivered", async () => {
    const { vcpu } = await create();
    const state = vcpu.getState();
    const VECTOR = 0x45;
    const lapic = Buffer.from(state.lapic, "base64");
    const [ISR, IRR] = [0x100, 0x200].map((base) => base + 16 * (VECTOR >> 5) + ((VECTOR >> 3) & 3)) as [
      number,
      number,
    ];
    lapic.writeUInt32LE(0x1ff, 0xf0);
    lapic[ISR]! |= 1 << (VECTOR & 7);
    vcpu.setState({
      ...state,
      lapic: lapic.toString("base64"),
      events: { ...state.events, interrupt: { vector: VECTOR, isSoft: false } },
    });
    const saved = vcpu.getState();
    const after = Buffer.from(saved.lapic, "base64");
    expect(saved.events.interrupt).toBeUndefined();
    expect([after[ISR], after[IRR]]).toEqual([0, 1 << (VECTOR & 7)]);
    // One that no APIC handed out stays the processor's.
    vcpu.setState({
      ...state,
      events: { ...state.events, interrupt: { vector: VECTOR, isSoft: false } },
    });
    expect(vcpu.getState().events.interrupt).toEqual({ vector: VECTOR, isSoft: false });
  });
});

const [MTRR_DEF_TYPE, TSC_AUX] = [0x2ff, 0xc0000103];
/** Enables the APIC, sends INIT and a SIPI of vector 8 to all others; OUT 0E0h, AL; JMP to itself. */
const WAKE_OTHERS = [
  ...setApic(Apic.SPURIOUS, 0x1ff),
  ...setApic(Apic.COMMAND, 0xc4500),
  ...setApic(Apic.COMMAND, 0xc4608),
  ...[0xe6, 0xe0, 0xeb, 0xfe],
];
/** Types of memory (SDM 3A §12.11): MOV ECX, 2FFh; MOV EAX, 0C06h; XOR EDX, EDX; WRMSR; OUT 0E0h, AL; JMP to itself. */
const SET_MTRRS = [
  ...[0x66, 0xb9, ...bytes(MTRR_DEF_TYPE, 4), 0x66, 0xb8, ...bytes(0xc06, 4), 0x66, 0x31, 0xd2],
  ...[0x0f, 0x30, 0xe6, 0xe0, 0xeb, 0xfe],
];

describe.skipIf(!hasKvm)("what of a processor's state KVM does not tell by itself", () => {
  const kickAtPort = (guest: RealModeGuest): void =>
    void guest.mapPorts({ base: 0xe0, length: 1 }, { read: () => 0, write: () => guest.vcpu.kick() });

  it("is a SIPI that came while the processor stood still", async () => {
    const guest = await create({ vcpus: 2 }, WAKE_OTHERS);
    const other = guest.vm.vcpus[1]!;
    const { sregs, ...rest } = guest.vcpu.getState();
    guest.vcpu.setState({ ...rest, sregs: { ...sregs, es: { ...sregs.es, base: BigInt(LAPIC) } } });
    other.reset();
    kickAtPort(guest);
    await guest.vcpu.run();
    expect(other.getState()).toMatchObject({
      mpState: "runnable",
      sregs: { cs: { selector: 0x800 } },
      regs: { rip: 0n },
    });
  });

  it("are types of memory and TSC_AUX, which move, and end with a reset", async () => {
    const [first, second] = [await create({}, SET_MTRRS), await create()];
    kickAtPort(first);
    await first.vcpu.run();
    const msr = (wanted: number): bigint | undefined =>
      second.vcpu.getState().msrs.find(([index]) => index === wanted)?.[1];
    const saved = first.vcpu.getState();
    const others = saved.msrs.filter(([index]) => index !== TSC_AUX);
    second.vcpu.setState({ ...saved, msrs: [...others, [TSC_AUX, 7n]], tsc: second.vcpu.getState().tsc });
    expect([msr(MTRR_DEF_TYPE), msr(TSC_AUX)]).toEqual([0xc06n, 7n]);
    second.vcpu.reset();
    expect([msr(MTRR_DEF_TYPE), msr(TSC_AUX)]).toEqual([0n, 0n]);
  });

  it("is that a timer's count is over, which the software CPU says", async () => {
    const guest = await create({}, [0xfb, 0xeb, 0xfe]); // STI; JMP to itself
    const state = guest.vcpu.getState();
    const lapic = Buffer.from(state.lapic, "base64");
    lapic.writeUInt32LE(0x1ff, Apic.SPURIOUS);
    lapic.writeUInt32LE(0x40, Apic.TIMER);
    lapic.writeUInt32LE(1000, Apic.INITIAL_COUNT);
    guest.vcpu.setState({ ...state, lapic: lapic.toString("base64"), lapicRemainder: { pendingErrors: 0 } });
    // The vector's handler: OUT 0E0h, AL.
    let fired = 0;
    guest.ram.set([0x00, 0x30, 0x00, 0x00], 4 * 0x40);
    guest.ram.set([0xe6, 0xe0, 0xeb, 0xfe], 0x3000);
    guest.mapPorts(
      { base: 0xe0, length: 1 },
      {
        read: () => 0,
        write: () => {
          fired++;
        },
      },
    );
    const run = guest.vcpu.run();
    await new Promise((resolve) => setTimeout(resolve, 20));
    guest.vcpu.kick();
    await run;
    expect(fired).toBe(0);
  });
});

describe.skipIf(!hasKvm)("time that the kernel keeps", () => {
  it("goes on from where it was saved", async () => {
    const [first, second] = [await create(), await create()];
    const HOUR = 3_600_000_000_000n;
    first.vm.schedule!.restore({ version: 1, clockNs: HOUR });
    const saved = first.vm.schedule!.save() as { readonly clockNs: bigint };
    expect(saved.clockNs).toBeGreaterThanOrEqual(HOUR);
    second.vm.schedule!.restore(structuredClone(saved));
    const after = second.vm.schedule!.save() as { readonly clockNs: bigint };
    expect(after.clockNs).toBeGreaterThanOrEqual(saved.clockNs);
  });

  it("has the kernel's i8254, and is refused where only one of the machines has it", async () => {
    const [first, second, third] = [
      await create({ kernelPit: true }),
      await create({ kernelPit: true }),
      await create(),
    ];
    const saved = first.vm.schedule!.save() as { readonly pit: string };
    const pit = Buffer.from(saved.pit, "base64");
    pit.writeUInt32LE(0x1234, 0); // kvm_pit_channel_state.count of channel 0
    second.vm.schedule!.restore({ ...saved, pit: pit.toString("base64") });
    const after = Buffer.from((second.vm.schedule!.save() as { readonly pit: string }).pit, "base64");
    expect(after.readUInt32LE(0)).toBe(0x1234);
    expect(() => third.vm.schedule!.restore(saved)).toThrow(/saved with an i8254 in the kernel/);
    expect(() => first.vm.schedule!.restore(third.vm.schedule!.save())).toThrow(/saved without/);
    expect(() => third.vm.schedule!.restore({ version: 2 })).toThrow(/expected version 1/);
  });

  it("stands still with its machine, which is saved as it was then", async () => {
    const { vm, vcpu } = await create();
    const clockNs = (): bigint => (vm.schedule!.save() as { readonly clockNs: bigint }).clockNs;
    vm.pause!();
    const [ns, { tsc }] = [clockNs(), vcpu.getState()];
    vm.pause!();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([clockNs(), vcpu.getState().tsc]).toEqual([ns, tsc]);
    const before = process.hrtime.bigint();
    vm.resume!();
    const after = clockNs();
    expect(after).toBeGreaterThanOrEqual(ns);
    expect(after - ns).toBeLessThanOrEqual(process.hrtime.bigint() - before);
    expect(vcpu.getState().tsc).toBeGreaterThan(tsc);
  });

  it("has an i8254 that a reset stops", async () => {
    const { vm } = await create({ kernelPit: true });
    const atPowerOn = vm.schedule!.save() as { readonly pit: string };
    const counting = Buffer.from(atPowerOn.pit, "base64");
    counting.writeUInt32LE(0x1234, 0);
    vm.schedule!.restore({ ...atPowerOn, pit: counting.toString("base64") });
    vm.reset!();
    const after = Buffer.from((vm.schedule!.save() as { readonly pit: string }).pit, "base64");
    expect(after.readUInt32LE(0)).toBe(Buffer.from(atPowerOn.pit, "base64").readUInt32LE(0));
  });
});
