/**
 * What the core does not implement ends the run with an exit that names it, the instruction's address and its bytes;
 * what the processor itself refuses stays an exception (SDM 3A §5.8, §6.13, §7.2–7.3, 3B §20.2).
 */
import type { VmExit } from "@northbridge/sdk";
import { al, addressOf, type Assembler, eax, mem } from "@northbridge/sdk/asm";
import { GuestBench, GuestProgram } from "@northbridge/sdk/conformance";
import { VirtualClock } from "@northbridge/core";
import { describe, expect, it } from "vitest";
import { softHypervisor } from "../../src/index.ts";
import { bareGuest, CODE, flatGuest, IDT, PORT } from "./flat-guest.ts";

const FREE_TSS = 0x20;
const BUSY_TSS = 0x28;
const TASK_GATE = 0x30;
const CALL_GATE = 0x38;
const ABSENT_TSS = 0x40;
const SMALL_CALL_GATE = 0x48;
const LDT_SELECTOR = 4;
const DESCRIPTORS = {
  [FREE_TSS]: 0x0000_8900_5000_0067n,
  [BUSY_TSS]: 0x0000_8b00_5000_0067n,
  [TASK_GATE]: 0x0000_8500_0020_0000n,
  [CALL_GATE]: 0x0000_8c00_0008_0000n,
  [ABSENT_TSS]: 0x0000_0900_5000_0067n,
  [SMALL_CALL_GATE]: 0x0000_8400_0008_0000n,
};
const CR0_NE = 0x20;
const LAPIC = 0xfee0_0000;

/** Runs a program whose instruction at `label` is the one; exceptions report their vector and error code. */
async function endOf(
  write: (a: Assembler) => void,
  prepare: (ram: Uint8Array) => void = () => undefined,
): Promise<{ exit: VmExit; written: number[]; here: bigint }> {
  let here = 0;
  const guest = await flatGuest(
    (a) => {
      write(a);
      a.label("after");
      a.op("hlt");
      for (const vector of [6, 11, 13]) {
        a.label(`handler${vector}`);
        a.mov(al, vector);
        a.out(PORT, al);
        if (vector !== 6) {
          a.pop(eax);
          a.out(PORT, eax);
        }
        a.op("hlt");
      }
      here = a.addressOf("here");
    },
    { gates: { 6: "handler6", 11: "handler11", 13: "handler13" }, descriptors: DESCRIPTORS },
  );
  prepare(guest.ram.bytes);
  const exit = await guest.vm.vcpus[0]!.run({ instructions: 10_000 });
  await guest.vm.close();
  return { exit, written: guest.written, here: BigInt(here) };
}

/** The exit's bytes are those of one instruction, or all that follow RIP where delivery was under way. */
function expectLack(exit: VmExit, what: string, rip: bigint, bytes: readonly number[]): void {
  expect(exit).toMatchObject({ kind: "error", detail: `not implemented: ${what}`, rip });
  const found = exit.kind === "error" ? exit.instructionBytes! : new Uint8Array();
  expect([...found.subarray(0, bytes.length)]).toEqual(bytes);
}

const farJump = (selector: number) => (a: Assembler) => {
  a.label("here");
  a.bytes(0xea, 0, 0, 0, 0, selector, 0);
};
const farCall = (selector: number) => (a: Assembler) => {
  a.label("here");
  a.bytes(0x9a, 0, 0, 0, 0, selector, 0);
};

describe("what the software CPU lacks", () => {
  it.each([
    ["a jump to a TSS", farJump(FREE_TSS), "hardware task switch", [0xea, 0, 0, 0, 0, FREE_TSS, 0]],
    ["a call of a TSS", farCall(FREE_TSS), "hardware task switch", [0x9a, 0, 0, 0, 0, FREE_TSS, 0]],
    ["a jump to a task gate", farJump(TASK_GATE), "hardware task switch", [0xea, 0, 0, 0, 0, TASK_GATE, 0]],
    ["a call of a 32-bit call gate", farCall(CALL_GATE), "call gate", [0x9a, 0, 0, 0, 0, CALL_GATE, 0]],
    [
      "a jump to a 16-bit call gate",
      farJump(SMALL_CALL_GATE),
      "call gate",
      [0xea, 0, 0, 0, 0, SMALL_CALL_GATE, 0],
    ],
    [
      "IRET with NT",
      (a: Assembler) => {
        a.push(0x4002);
        a.op("popf");
        a.label("here");
        a.op("iretd");
      },
      "hardware task switch",
      [0xcf],
    ],
    [
      "IRET to virtual-8086 mode",
      (a: Assembler) => {
        for (const value of [0x2_0002, 0x1234, 0]) a.push(value);
        a.label("here");
        a.op("iretd");
      },
      "virtual-8086 mode",
      [0xcf],
    ],
    [
      "an x87 exception while CR0.NE is clear",
      (a: Assembler) => {
        a.push(0x37b); // divide by zero unmasked
        a.bytes(0xdb, 0xe3, 0xd9, 0x2c, 0x24, 0xd9, 0xe8, 0xd9, 0xee, 0xd8, 0xf1, 0xd9, 0xc9, 0xd8, 0xf1); // FNINIT, FLDCW … FDIV: 1/0
        a.label("here");
        a.bytes(0x9b);
      },
      "x87 exception with CR0.NE clear",
      [0x9b],
    ],
  ])("ends the run: %s", async (_, write, what, bytes) => {
    const { exit, here, written } = await endOf(write);
    expectLack(exit, what, here, bytes);
    expect(exit.kind === "error" && exit.instructionBytes).toHaveLength(bytes.length);
    expect(written).toEqual([]);
  });

  /** Makes the gate of a vector a task gate. */
  const taskGate = (vector: number) => (ram: Uint8Array) => {
    ram.set([0, 0, FREE_TSS, 0, 0, 0x85, 0, 0], IDT + vector * 8);
  };

  it.each([
    ["INT n", 0x30, [0xcd, 0x30]],
    ["an exception", 6, [0x0f, 0x0b]],
    ["a breakpoint instruction", 3, [0xcc]],
  ])("ends the run: %s through a task gate", async (_, vector, bytes) => {
    const { exit, here } = await endOf((a) => {
      a.label("here");
      a.bytes(...bytes);
    }, taskGate(vector));
    expectLack(exit, "hardware task switch", here, bytes);
  });

  it("ends the run: an external interrupt through a task gate, before the next instruction", async () => {
    const { exit, here } = await endOf((a) => {
      a.mov(mem({ displacement: LAPIC + 0xf0, bits: 32 }), 0x1ff);
      a.mov(mem({ displacement: LAPIC + 0x300, bits: 32 }), 0x4_4030); // to itself, vector 0x30
      a.op("sti");
      a.op("nop");
      a.label("here");
      a.bytes(0x0f, 0x1f, 0x00);
    }, taskGate(0x30));
    expectLack(exit, "hardware task switch", here, [0x0f, 0x1f, 0x00, 0xf4]);
  });

  it("ends the run of a state in virtual-8086 mode, having executed nothing", async () => {
    const { vm } = await bareGuest();
    const vcpu = vm.vcpus[0]!;
    const state = vcpu.getState();
    vcpu.setState({
      ...state,
      regs: { ...state.regs, rip: 0x10n, rflags: 0x2_0002n },
      sregs: { ...state.sregs, cr0: 0x11n, cs: { ...state.sregs.cs, base: 0x8000n, selector: 0x800 } },
    });
    const exit = await vcpu.run();
    expectLack(exit, "virtual-8086 mode", 0x10n, [0, 0]);
    expect(vm.stats()["instructions"]).toBe(0);
  });

  it("ends the run: a call gate of 64-bit mode", async () => {
    const g = new GuestProgram();
    g.a.label("here");
    g.a.bytes(0xff, 0x1d, 0, 0, 0, 0); // call far [rip]
    g.a.bytes(0, 0, 0, 0, 0xa0, 0); // selector 0xa0
    const bench = await GuestBench.create({
      createHypervisor: softHypervisor,
      createClock: () => new VirtualClock(),
    });
    bench.load(g);
    bench.view.setBigUint64(0x1000 + 0xa0, 0x0001_8c00_0008_0000n, true);
    bench.vm.memoryWritten(0x1000, 0x100);
    expectLack(
      await bench.vcpu().run({ instructions: 100 }),
      "call gate",
      BigInt(g.a.addressOf("here")),
      [0xff, 0x1d],
    );
    await bench.close();
  });
});

describe("what the processor itself refuses", () => {
  it.each([
    ["a busy TSS", BUSY_TSS, [13, BUSY_TSS]],
    ["an absent TSS", ABSENT_TSS, [11, ABSENT_TSS]],
    ["a TSS with a selector of less privilege", FREE_TSS | 3, [13, FREE_TSS]],
    ["a selector of a local table that is not there", FREE_TSS | LDT_SELECTOR, [13, FREE_TSS | LDT_SELECTOR]],
    ["a null selector", 0, [13, 0]],
  ])("a jump to %s is an exception", async (_, selector, expected) => {
    const { exit, written } = await endOf(farJump(selector));
    expect(exit).toEqual({ kind: "halt" });
    expect(written).toEqual(expected);
  });

  it("IRET with NT in long mode is #GP", async () => {
    const g = new GuestProgram();
    g.faults((a) => {
      a.push(0x4002);
      a.op("popf");
      a.op("iretq");
    });
    g.done();
    const bench = await GuestBench.create({
      createHypervisor: softHypervisor,
      createClock: () => new VirtualClock(),
    });
    bench.load(g);
    await bench.run();
    expect(bench.reports).toMatchObject([{ vector: 13, error: 0 }]);
    await bench.close();
  });

  it("an x87 exception with CR0.NE set is #MF", async () => {
    const guest = await flatGuest(
      (a) => {
        a.mov(eax, 0x11 | CR0_NE);
        a.bytes(0x0f, 0x22, 0xc0); // mov cr0, eax
        a.push(0x37b);
        a.bytes(
          0xdb,
          0xe3,
          0xd9,
          0x2c,
          0x24,
          0xd9,
          0xe8,
          0xd9,
          0xee,
          0xd8,
          0xf1,
          0xd9,
          0xc9,
          0xd8,
          0xf1,
          0x9b,
          0xf4,
        );
        a.label("mf");
        a.mov(al, 16);
        a.out(PORT, al);
        a.op("hlt");
      },
      { gates: { 16: "mf" } },
    );
    expect(await guest.vm.vcpus[0]!.run()).toEqual({ kind: "halt" });
    expect(guest.written).toEqual([16]);
  });
});

it("takes stacks of inner levels out of a 16-bit TSS (SDM 3A figure 7-10)", async () => {
  const TSS16 = 0x5000;
  const USER_CODE = 0x50;
  const USER_DATA = 0x58;
  const guest = await flatGuest(
    (a) => {
      a.mov(eax, FREE_TSS);
      a.bytes(0x0f, 0x00, 0xd8); // ltr ax
      for (const value of [USER_DATA | 3, 0x7000, 2, USER_CODE | 3, addressOf("user")]) a.push(value);
      a.op("iretd");
      a.label("user");
      a.int(0x30);
      a.label("kernel");
      a.mov(eax, { ...eax, number: 4 }); // ESP
      a.out(PORT, eax);
      a.op("hlt");
    },
    {
      gates: {},
      descriptors: {
        [FREE_TSS]: 0x0000_8100_5000_002bn,
        [USER_CODE]: 0x00cf_fb00_0000_ffffn,
        [USER_DATA]: 0x00cf_f300_0000_ffffn,
      },
    },
  );
  const view = new DataView(guest.ram.bytes.buffer, guest.ram.bytes.byteOffset);
  view.setUint32(TSS16 + 2, 0x0010_6000, true); // SS0:SP0
  const handler =
    CODE +
    guest.ram.bytes.subarray(CODE).findIndex((_, i, code) => code[i] === 0xcd && code[i + 1] === 0x30) +
    2;
  view.setUint32(IDT + 0x30 * 8, (8 << 16) | (handler & 0xffff), true);
  view.setUint32(IDT + 0x30 * 8 + 4, (handler & 0xffff_0000) | 0xee00, true);
  guest.vm.memoryWritten(0, 0x10_0000);
  expect(await guest.vm.vcpus[0]!.run({ instructions: 1000 })).toEqual({ kind: "halt" });
  expect(guest.written).toEqual([0x6000 - 20]);
});
