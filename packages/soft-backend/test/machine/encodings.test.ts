/** The decoder knows what to make of every encoding, and optional instructions follow the CPU model. */
import type { CpuModel, VcpuState, VirtualMachine } from "@northbridge/sdk";
import { al, type Assembler, dr, eax, ebx, edi, esi, mem, rax } from "@northbridge/sdk/asm";
import { GuestBench, GuestProgram } from "@northbridge/sdk/conformance";
import { VirtualClock } from "@northbridge/core";
import { describe, expect, it } from "vitest";
import { softHypervisor, x86_64V2 } from "../../src/index.ts";
import { bareGuest, CODE, flatGuest, PORT } from "./flat-guest.ts";

const MAPS = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]] as const;
const PREFIXES = [[], [0x66], [0xf2], [0xf3]] as const;

/** Each opcode of each map with each mandatory prefix, with a memory operand and a register one. */
function* encodings(): Generator<readonly number[]> {
  let turn = 0;
  for (const map of MAPS) {
    for (const prefix of PREFIXES) {
      for (let opcode = 0; opcode < 256; opcode++) {
        turn++;
        for (const modrm of [((turn & 7) << 3) | 1, 0xc0 | (((turn + 3) & 7) << 3) | 1])
          yield [...prefix, ...map, opcode, modrm, 0x01, 0, 0, 0, 0, 0, 0, 0];
      }
    }
  }
}

/** Executes each encoding alone and returns those that ended the run with an error. */
async function failing(vm: VirtualMachine, ram: Uint8Array, start: VcpuState): Promise<string[]> {
  const failures: string[] = [];
  const vcpu = vm.vcpus[0]!;
  for (const bytes of encodings()) {
    ram.set(bytes, CODE);
    vm.memoryWritten(CODE, 32);
    vcpu.setState(start);
    const exit = await vcpu.run({ instructions: 1 });
    if (exit.kind === "error") failures.push(`${Buffer.from(bytes).toString("hex")}: ${exit.detail}`);
  }
  return failures;
}

describe("every opcode of every map", () => {
  it("is executed or refused by the processor in 32-bit mode", async () => {
    const guest = await flatGuest((a) => a.op("nop"));
    const start = guest.vm.vcpus[0]!.getState();
    expect(await failing(guest.vm, guest.ram.bytes, start)).toEqual([]);
  });

  it("is executed or refused by the processor in 64-bit mode", async () => {
    const bench = await GuestBench.create({
      createHypervisor: softHypervisor,
      createClock: () => new VirtualClock(),
    });
    bench.load(new GuestProgram());
    bench.enterLongMode(0, CODE);
    expect(await failing(bench.vm, bench.ram.bytes, bench.vcpu().getState())).toEqual([]);
  });

  it("is executed or refused by the processor in real mode", async () => {
    const { vm, ram } = await bareGuest();
    const state = vm.vcpus[0]!.getState();
    const start = {
      ...state,
      regs: { ...state.regs, rip: 0n, rsp: 0x8000n },
      sregs: { ...state.sregs, cs: { ...state.sregs.cs, base: BigInt(CODE), selector: CODE >> 4 } },
    };
    expect(await failing(vm, ram.bytes, start)).toEqual([]);
  });
});

/** The default model with bits of leaf 1 ECX and leaf 7 ECX set, and a leaf 0xD for XSAVE. */
function withFeatures(leaf1: number, leaf7 = 0): CpuModel {
  const leaves = x86_64V2.leaves.map((entry) =>
    entry.leaf === 1
      ? { ...entry, ecx: entry.ecx | leaf1 }
      : entry.leaf === 7 && entry.subleaf === 0
        ? { ...entry, ecx: entry.ecx | leaf7 }
        : entry,
  );
  return {
    name: "more",
    leaves: [...leaves, { leaf: 0xd, subleaf: 0, eax: 3, ebx: 576, ecx: 576, edx: 0 }],
  };
}

const PCLMULQDQ = 1 << 1;
const MOVBE = 1 << 22;
const AES = 1 << 25;
const XSAVE = 1 << 26;
const UMIP = 1 << 2;

/** Runs `write`; reports 6 or 13 where it raises that exception, 1 where it does not. */
async function outcome(write: (a: Assembler) => void, cpuModel?: CpuModel): Promise<number | undefined> {
  const guest = await flatGuest(
    (a) => {
      a.mov(eax, 0x600);
      a.bytes(0x0f, 0x22, 0xe0); // CR4: OSFXSR, OSXMMEXCPT
      a.mov(edi, 0x5000);
      write(a);
      a.mov(al, 1);
      a.out(PORT, al);
      a.op("hlt");
      for (const vector of [6, 13]) {
        a.label(`handler${vector}`);
        a.mov(al, vector);
        a.out(PORT, al);
        a.op("hlt");
      }
    },
    { gates: { 6: "handler6", 13: "handler13" }, ...(cpuModel === undefined ? {} : { cpuModel }) },
  );
  expect(await guest.vm.vcpus[0]!.run({ instructions: 1000 })).toEqual({ kind: "halt" });
  await guest.vm.close();
  return guest.written[0];
}

const setCr4 = (value: number) => (a: Assembler) => {
  a.mov(eax, value);
  a.bytes(0x0f, 0x22, 0xe0);
};
const bytes =
  (...values: number[]) =>
  (a: Assembler) => {
    a.bytes(...values);
  };

describe("an instruction that the model does not claim", () => {
  it.each([
    ["MOVBE", MOVBE, 0, bytes(0x0f, 0x38, 0xf0, 0x07), 6],
    ["AESENC", AES, 0, bytes(0x66, 0x0f, 0x38, 0xdc, 0xc1), 6],
    ["AESKEYGENASSIST", AES, 0, bytes(0x66, 0x0f, 0x3a, 0xdf, 0xc1, 1), 6],
    ["PCLMULQDQ", PCLMULQDQ, 0, bytes(0x66, 0x0f, 0x3a, 0x44, 0xc1, 0), 6],
    ["CR4.OSXSAVE", XSAVE, 0, setCr4(1 << 18), 13],
    ["CR4.UMIP", 0, UMIP, setCr4(1 << 11), 13],
  ])("is refused: %s", async (_, leaf1, leaf7, write, vector) => {
    expect(await outcome(write)).toBe(vector);
    expect(await outcome(write, withFeatures(leaf1, leaf7))).toBe(1);
  });

  it.each([
    ["VADDPS (AVX)", [0xc5, 0xf4, 0x58, 0xc1]],
    ["ANDN (BMI1)", [0xc4, 0xe2, 0x78, 0xf2, 0xc1]],
    ["RDRAND", [0x0f, 0xc7, 0xf0]],
    ["MONITOR", [0x0f, 0x01, 0xc8]],
    ["VMCALL", [0x0f, 0x01, 0xc1]],
    ["VMMCALL", [0x0f, 0x01, 0xd9]],
    ["STAC", [0x0f, 0x01, 0xcb]],
    ["GETSEC", [0x0f, 0x37]],
    ["RSM outside SMM", [0x0f, 0xaa]],
    ["CLWB", [0x66, 0x0f, 0xae, 0x37]],
    ["CLFLUSHOPT", [0x66, 0x0f, 0xae, 0x3f]],
    ["INVPCID", [0x66, 0x0f, 0x38, 0x82, 0x07]],
    ["SHA1RNDS4", [0x0f, 0x3a, 0xcc, 0xc1, 0]],
    ["PFADD (3DNow!)", [0x0f, 0x0f, 0xc1, 0x9e]],
    ["XGETBV without CR4.OSXSAVE", [0x0f, 0x01, 0xd0]],
  ])("is #UD, no end of the run: %s", async (_, code) => {
    expect(await outcome(bytes(...code))).toBe(6);
  });

  it.each([
    ["VME", 1],
    ["PVI", 2],
    ["FSGSBASE", 1 << 16],
    ["PCIDE", 1 << 17],
    ["SMEP", 1 << 20],
    ["SMAP", 1 << 21],
  ])("leaves its bit of CR4 reserved: %s", async (_, bit) => {
    expect(await outcome(setCr4(bit))).toBe(13);
  });
});

describe("XSAVE and XRSTOR (SDM 1 §13.7–13.8)", () => {
  const AREA = 0x5000;
  const HEADER = AREA + 512;

  /** FNINIT; ST0 = π, XMM1 = bytes at 0x6000, MXCSR = 0x1f81, XSAVE of `saved`, `between`, XRSTOR of `restored`. */
  async function roundTrip(
    saved: number,
    restored: number,
    between: (a: Assembler) => void = () => undefined,
  ) {
    const guest = await flatGuest(
      (a) => {
        setCr4(0x4_0600)(a);
        a.bytes(0x31, 0xc9, 0x31, 0xd2, 0xb8, 3, 0, 0, 0, 0x0f, 0x01, 0xd1); // XSETBV: XCR0 = 3
        a.mov(esi, 0x6000);
        a.mov(edi, AREA);
        a.bytes(0xdb, 0xe3, 0xd9, 0xeb, 0x0f, 0xae, 0x56, 0x10, 0x0f, 0x10, 0x0e); // FNINIT, FLDPI, LDMXCSR, MOVUPS XMM1
        a.mov(eax, saved);
        a.bytes(0x0f, 0xae, 0x27); // XSAVE [edi]
        a.bytes(0xdd, 0xd8, 0xd9, 0xe8, 0xd9, 0xee, 0x0f, 0x57, 0xc9); // FSTP, FLD1, FLDZ, XORPS XMM1
        between(a);
        a.mov(eax, restored);
        a.bytes(0x0f, 0xae, 0x2f); // XRSTOR [edi]
        a.op("hlt");
        a.label("gp");
        a.mov(ebx, 13);
        a.op("hlt");
      },
      { cpuModel: withFeatures(XSAVE), gates: { 13: "gp" } },
    );
    guest.ram.bytes.set(
      Array.from({ length: 16 }, (_, i) => i + 1),
      0x6000,
    );
    new DataView(guest.ram.bytes.buffer, guest.ram.bytes.byteOffset).setUint32(0x6010, 0x1f81, true);
    expect(await guest.vm.vcpus[0]!.run({ instructions: 1000 })).toEqual({ kind: "halt" });
    const state = guest.vm.vcpus[0]!.getState();
    const image = Buffer.from(state.fxsave, "base64");
    return {
      st0: image.readBigUInt64LE(32),
      top: (image.readUInt16LE(2) >> 11) & 7,
      tags: image[4],
      mxcsr: image.readUInt32LE(24),
      xmm1: [...image.subarray(176, 192)],
      present: guest.ram.bytes[HEADER],
      rbx: state.regs.rbx,
    };
  }

  const PI = 0xc90f_daa2_2168_c235n;
  const BYTES = Array.from({ length: 16 }, (_, i) => i + 1);
  const ZEROS = BYTES.map(() => 0);

  it("saves and restores both components", async () => {
    expect(await roundTrip(7, 7)).toEqual({
      st0: PI,
      top: 7,
      tags: 0x80,
      mxcsr: 0x1f81,
      xmm1: BYTES,
      present: 3,
      rbx: 0n,
    });
  });

  it("leaves alone what is not asked for", async () => {
    expect(await roundTrip(3, 1)).toMatchObject({ st0: PI, xmm1: ZEROS });
    expect(await roundTrip(3, 2)).toMatchObject({ st0: 0n, top: 6, tags: 0xc0, xmm1: BYTES });
    expect(await roundTrip(2, 0)).toMatchObject({ st0: 0n, xmm1: ZEROS, present: 2 });
  });

  it("initialises what is asked for and not in the image", async () => {
    expect(await roundTrip(2, 3)).toMatchObject({ st0: 0n, top: 0, tags: 0, xmm1: BYTES, present: 2 });
    expect(await roundTrip(1, 3)).toMatchObject({ st0: PI, xmm1: ZEROS, present: 1 });
  });

  it("refuses an image with unknown components or a compacted one", async () => {
    const spoil = (offset: number, value: number) => (a: Assembler) => {
      a.mov(mem({ displacement: HEADER + offset, bits: 32 }), value);
    };
    expect(await roundTrip(3, 3, spoil(0, 4))).toMatchObject({ rbx: 13n, xmm1: ZEROS });
    expect(await roundTrip(3, 3, spoil(12, 1 << 31))).toMatchObject({ rbx: 13n, xmm1: ZEROS });
  });
});

it("keeps the x87 environment of real mode as linear addresses (SDM 1 figures 8-11, 8-12)", async () => {
  const { vm, ram } = await bareGuest();
  // At linear 0x12340: FNINIT; FLD dword [0x8010] (DS base 0x20000); FNSTENV [0x8020]; o32 FNSTENV [0x8040]; …
  ram.bytes.set(
    [0xdb, 0xe3, 0xd9, 0x06, 0x10, 0x80, 0xd9, 0x36, 0x20, 0x80, 0x66, 0xd9, 0x36, 0x40, 0x80, 0xdb, 0xe3],
    0x12340,
  );
  // … FNINIT; FLDENV [0x8020]; o32 FNSTENV [0x8060]; hlt
  ram.bytes.set([0xd9, 0x26, 0x20, 0x80, 0x66, 0xd9, 0x36, 0x60, 0x80, 0xf4], 0x12351);
  vm.memoryWritten(0, 0x2_0000);
  const vcpu = vm.vcpus[0]!;
  const state = vcpu.getState();
  vcpu.setState({
    ...state,
    regs: { ...state.regs, rip: 0x340n },
    sregs: {
      ...state.sregs,
      cs: { ...state.sregs.cs, base: 0x12000n, selector: 0x1200 },
      ds: { ...state.sregs.ds, base: 0x20000n, selector: 0x2000 },
    },
  });
  expect(await vcpu.run({ instructions: 100 })).toEqual({ kind: "halt" });
  const view = new DataView(ram.bytes.buffer, ram.bytes.byteOffset);
  const words = (gpa: number): number[] => [6, 8, 10, 12].map((offset) => view.getUint16(gpa + offset, true));
  const doubles = (gpa: number): number[] =>
    [12, 16, 20, 24].map((offset) => view.getUint32(gpa + offset, true));
  // FIP 0x12342, opcode D9 06 → 0x106, FDP 0x28010.
  expect(words(0x28020)).toEqual([0x2342, 0x1106, 0x8010, 0x2000]);
  expect(doubles(0x28040).map((value) => value & 0x0fff_ffff)).toEqual([
    0x0fff_2342, 0x1106, 0x0fff_8010, 0x2000,
  ]);
  expect(doubles(0x28060)).toEqual(doubles(0x28040));
});

describe("CLFLUSH", () => {
  it("faults like a load of one byte (SDM 2A)", async () => {
    const g = new GuestProgram();
    const start = g.faults((a) => {
      a.mov(rax, 0x90_0000_0000n);
      a.bytes(0x0f, 0xae, 0x38); // clflush [rax]
    });
    g.done();
    const bench = await GuestBench.create({
      createHypervisor: softHypervisor,
      createClock: () => new VirtualClock(),
    });
    bench.load(g);
    await bench.run();
    expect(bench.reports).toMatchObject([{ vector: 14, error: 0, rip: g.a.addressOf(start) + 10, cr2: 0 }]);
  });
});

it("ICEBP is a trap that no gate's privilege stops, and leaves DR6 alone (SDM 2A, INT1)", async () => {
  const g = new GuestProgram();
  const start = g.faults((a) => {
    a.bytes(0xf1);
  });
  g.a.movFromSystem(rax, dr(6));
  g.report(rax);
  g.done();
  const bench = await GuestBench.create({
    createHypervisor: softHypervisor,
    createClock: () => new VirtualClock(),
  });
  bench.load(g);
  await bench.run();
  expect(bench.reports).toMatchObject([{ vector: 1, error: 0, rip: g.a.addressOf(start) + 1 }, 0xffff_0ff0]);
});
