/** What a processor's saved state holds: everything that the next instruction depends on, and nothing that is damaged. */
import { al, at, type Assembler, cl, eax, ebx, ecx, edi, esi, esp, mem } from "@northbridge/sdk/asm";
import type { VcpuState } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { bareGuest, type FlatGuest, flatGuest, PORT } from "./flat-guest.ts";

const LAPIC = 0xfee0_0000;
const DATA = 0x6_0000;

const lapicWrite = (a: Assembler, offset: number, value: number): void => {
  a.mov(mem({ displacement: LAPIC + offset, bits: 32 }), value);
};

/** `mov dr<n>, eax`. */
const setDebugRegister = (a: Assembler, n: number, value: number): void => {
  a.mov(eax, value);
  a.bytes(0x0f, 0x23, 0xc0 | (n << 3));
};

/** Every handler reports its vector and DR6, clears it, and returns. */
function handlers(a: Assembler, vectors: readonly number[]): void {
  for (const vector of vectors) {
    a.label(`vector${vector}`);
    a.push(eax);
    a.mov(al, vector);
    a.out(PORT, al);
    if (vector === 1) {
      a.bytes(0x0f, 0x21, 0xf0); // mov eax, dr6
      a.out(PORT, eax);
      setDebugRegister(a, 6, 0);
    } else if (vector >= 0x30) lapicWrite(a, 0xb0, 0);
    a.pop(eax);
    a.op("iretd");
  }
}
const gatesOf = (vectors: readonly number[]): Record<number, string> =>
  Object.fromEntries(vectors.map((vector) => [vector, `vector${vector}`]));

/** The same guest in a fresh machine. */
async function copyOf(guest: FlatGuest): Promise<FlatGuest> {
  const copy = await bareGuest();
  copy.clock.startAt(guest.clock.nowNs(), 0);
  copy.ram.bytes.set(guest.ram.bytes);
  copy.vm.memoryWritten(0, guest.ram.bytes.length);
  copy.vm.irqchip.restore(structuredClone(guest.vm.irqchip.save()));
  copy.vm.vcpus[0]!.setState(structuredClone(guest.vm.vcpus[0]!.getState()));
  return copy;
}

/** Saves behind every instruction of a program and compares what the copy does to the end with what the original did. */
async function expectSaveInvisible(make: () => Promise<FlatGuest>, instructions: number): Promise<number[]> {
  const reference = await make();
  await reference.vm.vcpus[0]!.run({ instructions });
  const expected = reference.vm.vcpus[0]!.getState();
  const walker = await make();
  for (let done = 0; done < instructions; done++) {
    const copy = await copyOf(walker);
    const before = [...walker.written];
    await copy.vm.vcpus[0]!.run({ instructions: instructions - done });
    expect([...before, ...copy.written], `saved after ${done}`).toEqual(reference.written);
    expect(copy.vm.vcpus[0]!.getState(), `saved after ${done}`).toEqual(expected);
    await copy.vm.close();
    await walker.vm.vcpus[0]!.run({ instructions: 1 });
  }
  return reference.written;
}

describe("a save between any two instructions changes nothing", () => {
  it("of a single-stepped program with loads of SS", async () => {
    const vectors = [1, 3];
    const written = await expectSaveInvisible(
      () =>
        flatGuest(
          (a) => {
            a.op("pushf");
            a.or(at(esp, 0, 32), 0x100);
            a.op("popf");
            a.inc(ebx);
            a.bytes(0x8c, 0xd0, 0x8e, 0xd0); // mov eax, ss; mov ss, eax
            a.inc(ebx);
            a.inc(ebx);
            a.int(3);
            a.op("pushf");
            a.and(at(esp, 0, 32), ~0x100);
            a.op("popf");
            a.op("cli");
            a.op("hlt");
            handlers(a, vectors);
          },
          { gates: gatesOf(vectors) },
        ),
      120,
    );
    // Steps report BS; the one of MOV SS is taken behind the instruction after it.
    expect(written.filter((value) => value === 0xffff4ff0).length).toBeGreaterThan(6);
  });

  it("of a program with data breakpoints, behind which a load of SS holds the trap off", async () => {
    const vectors = [1];
    const written = await expectSaveInvisible(
      () =>
        flatGuest(
          (a) => {
            setDebugRegister(a, 0, DATA);
            setDebugRegister(a, 1, DATA + 8);
            setDebugRegister(a, 7, 0x00dd_000a | 1); // four bytes each: written
            a.mov(edi, DATA);
            a.mov(esi, DATA);
            a.mov(at(edi, 0, 32), 5);
            a.inc(ebx);
            a.mov(at(edi, 8, 32), 16);
            a.bytes(0x8e, 0x57, 0x08); // mov ss, [edi + 8]
            a.mov(at(edi, 0, 32), 6);
            a.inc(ebx);
            a.mov(ecx, 3);
            a.rep();
            a.string("stos", 32);
            a.op("hlt");
            handlers(a, vectors);
          },
          { gates: gatesOf(vectors) },
        ),
      90,
    );
    expect(written.filter((value) => value === 1).length).toBeGreaterThan(3);
  });

  it("of a program with a periodic timer between ticks of its divisor, shadows of STI, and errors of the APIC", async () => {
    const vectors = [0x40, 0x41];
    const written = await expectSaveInvisible(
      () =>
        flatGuest(
          (a) => {
            lapicWrite(a, 0xf0, 0x1ff);
            lapicWrite(a, 0x370, 0x41);
            lapicWrite(a, 0x3e0, 0x9); // by 64
            lapicWrite(a, 0x320, 0x2_0040);
            lapicWrite(a, 0x380, 1);
            lapicWrite(a, 0x300, 3); // illegal vector
            a.label("loop");
            a.op("sti");
            a.op("nop");
            a.op("cli");
            a.op("nop");
            a.inc(ebx);
            a.test(ebx, 0xf);
            a.j("nz", "loop");
            lapicWrite(a, 0x300, 5);
            lapicWrite(a, 0x280, 0);
            a.mov(eax, mem({ displacement: LAPIC + 0x280, bits: 32 }));
            a.out(PORT, eax);
            a.mov(eax, mem({ displacement: LAPIC + 0x390, bits: 32 }));
            a.shift("shl", eax, cl);
            a.jmp("loop");
            handlers(a, vectors);
          },
          { gates: gatesOf(vectors) },
        ),
      260,
    );
    expect(written).toContain(0x20);
    expect(written.filter((value) => value === 0x40).length).toBeGreaterThan(2);
    expect(written).toContain(0x41);
  });

  it("of an expiry of the timer that is due but not yet delivered", async () => {
    const guest = await flatGuest(
      (a) => {
        lapicWrite(a, 0xf0, 0x1ff);
        lapicWrite(a, 0x3e0, 0xb);
        lapicWrite(a, 0x320, 0x40);
        lapicWrite(a, 0x380, 5);
        a.op("sti");
        a.label("loop");
        a.jmp("loop");
        handlers(a, [0x40]);
      },
      { gates: gatesOf([0x40]) },
    );
    await guest.vm.vcpus[0]!.run({ instructions: 4 });
    guest.clock.skipTo(guest.clock.nowNs() + 5);
    expect(guest.vm.vcpus[0]!.getState().lapicRemainder).toEqual({ pendingErrors: 0, timerLeftNs: 0 });
    const copy = await copyOf(guest);
    await copy.vm.vcpus[0]!.run({ instructions: 20 });
    expect(copy.written).toEqual([0x40]);
  });
});

describe("a damaged state", () => {
  /** Every value of the state with its path. */
  function* leaves(value: unknown, path: readonly string[] = []): Generator<readonly string[]> {
    if (typeof value !== "object" || value === null) yield path;
    else for (const [name, member] of Object.entries(value)) yield* leaves(member, [...path, name]);
  }
  const spoilt = (value: unknown, path: readonly string[], by: unknown): unknown => {
    const [name, ...rest] = path;
    if (name === undefined) return by;
    const copy: Record<string, unknown> = Object.assign(Array.isArray(value) ? [] : {}, value);
    copy[name] = spoilt(copy[name], rest, by);
    return copy;
  };
  const nameOf = (path: readonly string[]): string =>
    path.map((name) => (/^\d/.test(name) ? `[${name}]` : `.${name}`)).join("");

  it("is refused by the path of what is wrong, with nothing loaded", async () => {
    const { vm } = await bareGuest();
    const vcpu = vm.vcpus[0]!;
    const state = vcpu.getState();
    const other = { ...state, regs: { ...state.regs, rax: 77n } };
    let count = 0;
    for (const path of leaves(state)) {
      for (const by of [null, Number.NaN, -1, -1n, 1n << 64n, "?", {}]) {
        if (path.at(-1) === "fxsave" || path.at(-1) === "lapic" ? by === "?" : false) continue;
        count++;
        expect(() => {
          vcpu.setState(spoilt(other, path, by) as VcpuState);
        }).toThrow(
          expect.objectContaining({
            code: "NB_RESTORE",
            message: expect.stringContaining(`vCPU 0${nameOf(path)}: `),
          }),
        );
      }
    }
    expect(count).toBeGreaterThan(1000);
    expect(vcpu.getState()).toEqual(state);
  });

  it.each([
    [["regs"], undefined, "vCPU 0.regs: cannot restore: expected an object, found undefined"],
    [
      ["regs", "rip"],
      undefined,
      "vCPU 0.regs.rip: cannot restore: expected an unsigned integer of 64 bits, found undefined",
    ],
    [
      ["sregs", "cs", "limit"],
      2 ** 32,
      "vCPU 0.sregs.cs.limit: cannot restore: expected an unsigned integer of 32 bits, found 4294967296",
    ],
    [["msrs"], {}, "vCPU 0.msrs: cannot restore: expected a list, found an object"],
    [["msrs", "2"], 5, "vCPU 0.msrs[2]: cannot restore: expected an object, found 5"],
    [
      ["mpState"],
      "asleep",
      'vCPU 0.mpState: cannot restore: expected runnable, halted, waitForSipi, initReceived, found "asleep"',
    ],
  ])("names %j", async (path, by, message) => {
    const { vm } = await bareGuest();
    const state = vm.vcpus[0]!.getState();
    expect(() => {
      vm.vcpus[0]!.setState(spoilt(state, path, by) as VcpuState);
    }).toThrow(message);
  });
});
