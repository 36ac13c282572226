import { createHash } from "node:crypto";
import { al, at, type Assembler, dx, eax, ebx, ecx, edi, esi, mem } from "@northbridge/sdk/asm";
import type { VcpuState, VmExit } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { bareGuest, CODE, type FlatGuest, flatGuest, PORT } from "./flat-guest.ts";

const LAPIC = 0xfee0_0000;
const COUNTER = 0x5000;
const TRAMPOLINE = 0x7000;

const lapicWrite = (a: Assembler, offset: number, value: number): void => {
  a.mov(mem({ displacement: LAPIC + offset, bits: 32 }), value);
};

const halt = (a: Assembler): void => {
  a.op("cli");
  a.op("hlt");
};

const run = (guest: FlatGuest, instructions?: number): Promise<VmExit> =>
  guest.vm.vcpus[0]!.run({ instructions });
const ramHash = (guest: FlatGuest): string => createHash("sha256").update(guest.ram.bytes).digest("hex");

describe("the software CPU's machine", () => {
  it("runs a program that prints over a port and halts", async () => {
    const guest = await flatGuest((a) => {
      for (const char of "Hi") {
        a.mov(al, char.charCodeAt(0));
        a.out(PORT, al);
      }
      halt(a);
    });
    expect(await run(guest)).toEqual({ kind: "halt" });
    expect(String.fromCharCode(...guest.written)).toBe("Hi");
    expect(guest.vm.stats()).toMatchObject({ instructions: 6, portWrites: 2 });
  });

  it("starts in real mode at the reset vector", async () => {
    const guest = await bareGuest();
    const { regs, sregs } = guest.vm.vcpus[0]!.getState();
    expect([sregs.cs.base, sregs.cs.selector, regs.rip, regs.rflags]).toEqual([
      0xffff_0000n,
      0xf000,
      0xfff0n,
      2n,
    ]);
    expect(sregs.cr0).toBe(0x6000_0010n);
    expect(sregs.apicBase).toBe(0xfee0_0900n);
  });

  it("executes exactly as many instructions as asked", async () => {
    const guest = await flatGuest((a) => {
      a.label("loop");
      a.inc(eax);
      a.inc(ebx);
      a.jmp("loop");
    });
    let total = 0;
    for (const count of [1, 2, 3, 7, 1000, 99_999, 1]) {
      expect(await run(guest, count)).toEqual({ kind: "budget" });
      total += count;
      expect(guest.vm.stats()["instructions"]).toBe(total);
      expect(guest.vm.vcpus[0]!.getState().regs.rip).toBe(BigInt(CODE + 2 * (total % 3)));
    }
    expect(guest.clock.nowNs()).toBe(total);
  });

  it("takes its timer's interrupts at their nanosecond, skipping over HLT", async () => {
    const guest = await flatGuest(
      (a) => {
        lapicWrite(a, 0xf0, 0x1ff);
        lapicWrite(a, 0x3e0, 0xb);
        lapicWrite(a, 0x320, 0x2_0040);
        lapicWrite(a, 0x380, 1_000_000);
        a.op("sti");
        a.label("wait");
        a.op("hlt");
        a.cmp(mem({ displacement: COUNTER, bits: 32 }), 5);
        a.j("ne", "wait");
        halt(a);
        a.label("tick");
        a.inc(mem({ displacement: COUNTER, bits: 32 }));
        lapicWrite(a, 0xb0, 0);
        a.op("iretd");
      },
      { gates: { 0x40: "tick" } },
    );
    expect(await run(guest)).toEqual({ kind: "halt" });
    // The countdown begins with the fourth instruction; behind the fifth tick come its handler's three and four more.
    expect(guest.clock.nowNs()).toBe(3 + 5_000_000 + 3 + 4);
  });

  it("delivers ISA interrupts through the 8259 pair", async () => {
    const guest = await flatGuest(
      (a) => {
        for (const [port, value] of [
          [0x20, 0x11],
          [0x21, 0x30],
          [0x21, 4],
          [0x21, 1],
          [0xa0, 0x11],
          [0xa1, 0x38],
          [0xa1, 2],
          [0xa1, 1],
          [0x21, 0xfb],
          [0xa1, 0xfe],
        ] as const) {
          a.mov(al, value);
          a.out(port, al);
        }
        a.op("sti");
        a.mov(al, 1);
        a.out(0x80, al);
        a.op("hlt");
        halt(a);
        a.label("rtc");
        a.mov(al, 0x77);
        a.out(PORT, al);
        a.mov(al, 0x20);
        a.out(0xa0, al);
        a.out(0x20, al);
        a.op("iretd");
      },
      { gates: { 0x38: "rtc" } },
    );
    guest.onWrite = () => {
      guest.vm.setIrq(8, true); // inside the handler: delivered at the next instruction boundary
    };
    const exit = run(guest);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(guest.written).toEqual([0x77]);
    guest.vm.setIrq(8, false);
    guest.vm.setIrq(8, true);
    expect(await exit).toEqual({ kind: "halt" });
    expect(guest.written).toEqual([0x77, 0x77]);
  });

  it("routes the IOAPIC's pins and MSIs to the local APIC", async () => {
    const guest = await flatGuest(
      (a) => {
        lapicWrite(a, 0xf0, 0x1ff);
        a.mov(mem({ displacement: 0xfec0_0000, bits: 32 }), 0x10 + 2 * 20);
        a.mov(mem({ displacement: 0xfec0_0010, bits: 32 }), 0x8041); // level-triggered, vector 0x41
        a.op("sti");
        a.label("wait");
        a.op("hlt");
        a.jmp("wait");
        a.label("level");
        a.mov(al, 0x41);
        a.out(PORT, al);
        a.out(0x80, al); // the device lowers its line
        lapicWrite(a, 0xb0, 0);
        a.op("iretd");
        a.label("message");
        a.mov(al, 0x42);
        a.out(PORT, al);
        lapicWrite(a, 0xb0, 0);
        halt(a);
      },
      { gates: { 0x41: "level", 0x42: "message" } },
    );
    guest.onWrite = () => {
      if (guest.written.length === 2) guest.vm.setIrq(20, false);
    };
    const exit = run(guest);
    await new Promise((resolve) => setTimeout(resolve, 20));
    guest.vm.setIrq(20, true);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(guest.written).toEqual([0x41, 0x41]); // asserted still at the first EOI: once more
    guest.vm.msi.signal(0xfee0_0000, 0x42);
    expect(await exit).toEqual({ kind: "halt" });
    expect(guest.written).toEqual([0x41, 0x41, 0x42]);
  });

  it("ends the run with the failure of a device, after the access", async () => {
    const guest = await flatGuest((a) => {
      a.mov(dx, 0x3f8);
      a.in(al, dx);
      a.out(PORT, al);
      halt(a);
    });
    guest.onRead = () => {
      throw new Error("boom");
    };
    const exit = await run(guest);
    expect(exit).toMatchObject({ kind: "error", detail: "read of port 0x3f8: boom" });
    expect(guest.vm.vcpus[0]!.getState().regs.rax & 0xffn).toBe(0xffn);
    expect(guest.written).toEqual([]);
    expect(await run(guest)).toEqual({ kind: "halt" });
  });

  it("names the bytes of what it cannot execute, and tells a triple fault", async () => {
    const broken = await flatGuest((a) => {
      a.op("int3");
    });
    broken.ram.bytes.fill(0, 0x2000, 0x2800);
    expect(await run(broken)).toMatchObject({ kind: "shutdown" });
  });

  it("stops at breakpoints and after single steps", async () => {
    const guest = await flatGuest((a) => {
      a.mov(eax, 1);
      a.mov(ebx, 2);
      a.mov(ecx, 3);
      halt(a);
    });
    const vcpu = guest.vm.vcpus[0]!;
    vcpu.setDebug({ singleStep: true });
    expect(await vcpu.run()).toEqual({ kind: "debug", rip: BigInt(CODE + 5) });
    vcpu.setDebug({ breakpoints: [BigInt(CODE + 15)] });
    expect(await vcpu.run()).toEqual({ kind: "debug", rip: BigInt(CODE + 15) });
    vcpu.setDebug(undefined);
    expect(await vcpu.run()).toEqual({ kind: "halt" });
  });

  it("logs the pages that the guest and devices wrote", async () => {
    const guest = await flatGuest((a) => {
      a.mov(mem({ displacement: 0x9_0004, bits: 32 }), 1);
      a.out(PORT, al);
      a.mov(mem({ displacement: 0x9_0008, bits: 32 }), 1);
      a.mov(mem({ displacement: 0xa_0ffe, bits: 32 }), -1);
      halt(a);
    });
    guest.vm.dirtyLog.enable();
    await run(guest, 2);
    guest.vm.memoryWritten(0x4_2000, 1);
    expect(guest.vm.dirtyLog.harvest()).toEqual([0x42, 0x90]);
    await run(guest);
    expect(guest.vm.dirtyLog.harvest()).toEqual([0x90, 0xa0, 0xa1]);
    expect(guest.vm.dirtyLog.harvest()).toEqual([]);
  });

  it("refuses memory it did not reserve", async () => {
    const { vm } = await bareGuest();
    expect(() => vm.addMemory({ name: "more", gpa: 0x100_0000, length: 0x200_0000 })).toThrow(/do not fit/);
  });
});

/** Two processors that race on one counter without locks, each also counting its own rounds. */
const racers = (): Promise<FlatGuest> =>
  flatGuest(
    (a) => {
      lapicWrite(a, 0xf0, 0x1ff);
      lapicWrite(a, 0x310, 1 << 24);
      lapicWrite(a, 0x300, 0x4500);
      lapicWrite(a, 0x300, 0x4600 | (TRAMPOLINE >> 12));
      lapicWrite(a, 0x3e0, 0xb);
      lapicWrite(a, 0x320, 0x2_0040);
      lapicWrite(a, 0x380, 7_777);
      a.op("sti");
      a.label("race");
      a.mov(eax, mem({ displacement: COUNTER, bits: 32 }));
      a.add(eax, 1);
      a.mov(mem({ displacement: COUNTER, bits: 32 }), eax);
      a.inc(esi);
      a.mov(mem({ displacement: COUNTER + 4, bits: 32 }), esi);
      a.jmp("race");
      a.label("tick");
      a.inc(mem({ displacement: COUNTER + 12, bits: 32 }));
      lapicWrite(a, 0xb0, 0);
      a.op("iretd");
    },
    { vcpus: 2, gates: { 0x40: "tick" } },
  ).then((guest) => {
    // mov ax,[0x5000]; inc ax; mov [0x5000],ax; inc si; mov [0x5008],si; pause every round; jmp
    guest.ram.bytes.set(
      [0xa1, 0x00, 0x50, 0x40, 0xa3, 0x00, 0x50, 0x46, 0x89, 0x36, 0x08, 0x50, 0xeb, 0xf2],
      TRAMPOLINE,
    );
    guest.vm.memoryWritten(TRAMPOLINE, 16);
    return guest;
  });

async function race(guest: FlatGuest, cuts: readonly number[]): Promise<void> {
  const other = guest.vm.vcpus[1]!.run();
  for (const cut of cuts) await run(guest, cut);
  guest.vm.vcpus[1]!.kick();
  await other;
}

describe("under the virtual clock", () => {
  it("two runs with the same input give the same memory at the same instruction count", async () => {
    const [a, b] = [await racers(), await racers()];
    await race(a, [400_000]);
    await race(b, [400_000]);
    expect(a.vm.stats()).toEqual(b.vm.stats());
    expect(a.vm.vcpus.map((vcpu) => vcpu.getState())).toEqual(b.vm.vcpus.map((vcpu) => vcpu.getState()));
    expect(ramHash(a)).toBe(ramHash(b));
    const words = new Uint32Array(a.ram.bytes.slice(COUNTER, COUNTER + 16).buffer);
    expect(words[1]).toBeGreaterThan(1_000);
    expect(words[2]).toBeGreaterThan(1_000); // the second processor ran
    expect(words[3]).toBeGreaterThan(50); // and the timer ticked
  });

  it("stopping and going on changes nothing", async () => {
    const [a, b] = [await racers(), await racers()];
    await race(a, [300_000]);
    await race(b, [1, 2, 49_999, 100_000, 3, 149_995]);
    expect(a.vm.stats()["instructions"]).toBe(b.vm.stats()["instructions"]);
    expect(ramHash(a)).toBe(ramHash(b));
  });

  it("goes on in a fresh machine as in the saved one", async () => {
    const program = (a: Assembler): void => {
      lapicWrite(a, 0xf0, 0x1ff);
      lapicWrite(a, 0x3e0, 0xb);
      lapicWrite(a, 0x320, 0x2_0040);
      lapicWrite(a, 0x380, 5_003);
      a.op("sti");
      a.label("loop");
      a.op("rdtsc");
      a.add(edi, eax);
      a.mov(mem({ base: edi, displacement: 0, bits: 32 }), eax);
      a.and(edi, 0xfff);
      a.or(edi, 0x6_0000);
      a.mov(at(edi), eax);
      a.jmp("loop");
      a.label("tick");
      a.inc(mem({ displacement: COUNTER, bits: 32 }));
      a.out(PORT, al);
      lapicWrite(a, 0xb0, 0);
      a.op("iretd");
    };
    const first = await flatGuest(program, { gates: { 0x40: "tick" } });
    await run(first, 123_457);
    const saved = structuredClone({
      state: first.vm.vcpus[0]!.getState(),
      irqchip: first.vm.irqchip.save(),
      ram: first.ram.bytes.slice(),
      now: first.clock.nowNs(),
    });
    const second = await bareGuest();
    second.clock.startAt(saved.now, 0);
    second.ram.bytes.set(saved.ram);
    second.vm.memoryWritten(0, saved.ram.length);
    second.vm.irqchip.restore(saved.irqchip);
    second.vm.vcpus[0]!.setState(saved.state);
    expect(second.vm.vcpus[0]!.getState()).toEqual(saved.state);
    for (const guest of [first, second]) {
      guest.written.length = 0;
      await run(guest, 77_777);
    }
    expect(second.written).toEqual(first.written);
    expect(second.vm.vcpus[0]!.getState()).toEqual(first.vm.vcpus[0]!.getState());
    expect(ramHash(second)).toBe(ramHash(first));
  });
});

describe("vCPU state", () => {
  it("holds a start-up IPI that the processor has not yet acted on", async () => {
    const guest = await flatGuest(
      (a) => {
        lapicWrite(a, 0x310, 1 << 24);
        lapicWrite(a, 0x300, 0x4500); // INIT
        lapicWrite(a, 0x300, 0x4607); // start-up, page 7
        halt(a);
      },
      { vcpus: 2 },
    );
    expect(await run(guest, 3)).toEqual({ kind: "budget" });
    const { mpState, sregs, regs } = guest.vm.vcpus[1]!.getState();
    expect([mpState, sregs.cs.selector, sregs.cs.base, regs.rip]).toEqual(["runnable", 0x700, 0x7000n, 0n]);
  });

  it("comes back as it was set", async () => {
    const { vm } = await bareGuest(2);
    const vcpu = vm.vcpus[1]!;
    const state = vcpu.getState();
    expect(state.mpState).toBe("waitForSipi");
    const fxsave = new Uint8Array(Buffer.from(state.fxsave, "base64"));
    fxsave.set([0x7f, 0x02, 0x00, 0x18, 0xaa], 0);
    for (let i = 0; i < 8; i++) fxsave.set([i, 1, 2, 3, 4, 5, 6, 0x80 | i, 0xff, 0x3f], 32 + i * 16);
    for (let i = 160; i < 416; i++) fxsave[i] = i & 0xff;
    const changed: VcpuState = {
      ...state,
      regs: { ...state.regs, rax: 1n, r15: 0xffff_ffff_ffff_ffffn, rflags: 0x246n },
      sregs: { ...state.sregs, cr2: 0xdead_beefn, efer: 0xd01n, cr3: 0x1000n },
      fxsave: Buffer.from(fxsave).toString("base64"),
      events: {
        nmiPending: false,
        nmiMasked: true,
        interruptShadow: true,
        movSsShadow: true,
        pendingDebug: 0x4005,
      },
      lapicRemainder: { pendingErrors: 0x60 },
      debugregs: { db: [1n, 2n, 3n, 4n], dr6: 0xffff_0ff0n, dr7: 0x400n },
      mpState: "halted",
      tsc: 0x1_2345_6789n,
    };
    vcpu.setState(changed);
    const got = vcpu.getState();
    expect({ ...got, msrs: [] }).toEqual({ ...changed, msrs: [] });
    expect(got.msrs.find(([index]) => index === 0x10)).toEqual([0x10, 0x1_2345_6789n]);
    expect(JSON.stringify(got.msrs.map(([index]) => index))).toBe(
      JSON.stringify(state.msrs.map(([index]) => index)),
    );
  });

  it("refuses another version or a short image, with nothing loaded", async () => {
    const { vm } = await bareGuest();
    const vcpu = vm.vcpus[0]!;
    const state = vcpu.getState();
    expect(() => {
      vcpu.setState({ ...state, version: 2 as 1, regs: { ...state.regs, rax: 9n } });
    }).toThrow(/version: cannot restore: expected version 1, found 2/);
    expect(() => {
      vcpu.setState({ ...state, fxsave: "AAAA", regs: { ...state.regs, rax: 9n } });
    }).toThrow(/fxsave: cannot restore: expected 512 bytes/);
    expect(vcpu.getState()).toEqual(state);
  });
});
