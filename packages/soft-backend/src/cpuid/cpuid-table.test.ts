import { x86_64V2 } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { CpuidTable } from "./cpuid-table.ts";

function look(table: CpuidTable, leaf: number, subleaf = 0, apicId = 0) {
  table.look(leaf, subleaf, apicId, true, false);
  return [table.eax, table.ebx, table.ecx, table.edx] as const;
}

const text = (words: readonly number[]): string =>
  new TextDecoder().decode(new Uint8Array(new Uint32Array(words).buffer)).replaceAll("\0", "");

describe("the x86-64-v2 model", () => {
  const table = new CpuidTable(x86_64V2, 4);

  it("has every feature of the psABI's level", () => {
    const [, , ecx1, edx1] = look(table, 1);
    // CX16, POPCNT, SSE3, SSE4.1, SSE4.2, SSSE3; CMOV, CX8, FPU, FXSR, MMX, SSE, SSE2
    for (const bit of [13, 23, 0, 19, 20, 9]) expect((ecx1 >>> bit) & 1, `ECX bit ${bit}`).toBe(1);
    for (const bit of [15, 8, 0, 24, 23, 25, 26]) expect((edx1 >>> bit) & 1, `EDX bit ${bit}`).toBe(1);
    const [, , ecx, edx] = look(table, 0x8000_0001);
    expect(ecx & 1).toBe(1); // LAHF
    for (const bit of [11, 20, 29]) expect((edx >>> bit) & 1, `extended EDX bit ${bit}`).toBe(1); // SYSCALL, NX, LM
  });

  it("claims nothing that the core lacks", () => {
    const [, , ecx] = look(table, 1);
    for (const bit of [1, 12, 17, 22, 25, 26, 27, 28, 29, 30])
      expect((ecx >>> bit) & 1, `ECX bit ${bit}`).toBe(0);
    const [, ebx] = look(table, 7);
    for (const bit of [0, 3, 5, 7, 8, 16, 19, 20]) expect((ebx >>> bit) & 1, `leaf 7 EBX bit ${bit}`).toBe(0);
    expect((look(table, 0x8000_0001)[3] >>> 26) & 1).toBe(0); // 1 GiB pages
  });

  it("says who it is", () => {
    const [, ebx, ecx, edx] = look(table, 0);
    expect(text([ebx, edx, ecx])).toBe("GenuineIntel");
    const brand = [0x8000_0002, 0x8000_0003, 0x8000_0004].flatMap((leaf) => look(table, leaf));
    expect(text(brand)).toBe("Northbridge x86-64-v2 virtual CPU");
    expect(text(look(table, 0x4000_0000).slice(1))).toBe("Northbridge");
  });

  it("gives the TSC's frequency: crystal × EBX / EAX", () => {
    const [eax, ebx, ecx] = look(table, 0x15);
    expect((ecx * ebx) / eax).toBe(1e9);
    expect(look(table, 0x4000_0010)[0]).toBe(1e6); // kHz
    const other = new CpuidTable({ ...x86_64V2, tscKhz: 2_596_096 }, 4);
    const [denominator, numerator, crystal] = look(other, 0x15);
    expect((crystal * numerator) / denominator).toBe(2_596_096_000);
    expect([look(other, 0x16)[0], look(other, 0x4000_0010)[0]]).toEqual([2596, 2_596_096]);
    expect(look(new CpuidTable({ ...x86_64V2, tscKhz: 1e6 }, 4), 0x15)).toEqual([eax, ebx, ecx, 0]);
  });

  it("gives way to the model of a saved guest", () => {
    const shown = new CpuidTable(x86_64V2, 4);
    look(shown, 0);
    shown.show({ name: "bare", leaves: [{ leaf: 0, eax: 1, ebx: 7, ecx: 0, edx: 0 }] });
    expect(look(shown, 0)).toEqual([1, 7, 0, 0]);
    expect(look(shown, 0x8000_0002)).toEqual([0, 0, 0, 0]);
  });
});

describe("CpuidTable", () => {
  it("describes the machine's topology", () => {
    const table = new CpuidTable(x86_64V2, 3);
    expect(look(table, 1, 0, 2)[1]).toBe(((2 << 24) | (3 << 16) | 0x800) >>> 0);
    expect((look(table, 1)[3] >>> 28) & 1).toBe(1);
    expect(look(table, 0xb, 0, 2)).toEqual([0, 1, 0x100, 2]);
    expect(look(table, 0xb, 1, 2)).toEqual([2, 3, 0x201, 2]);
    expect(look(table, 0xb, 2, 2)).toEqual([0, 0, 2, 2]);
    expect(look(table, 4, 0)[0] >>> 14).toBe(2 << 12); // L1: private; three cores
    expect((look(table, 4, 3)[0] >>> 14) & 0xfff).toBe(2); // L3: shared by three
    expect(look(new CpuidTable(x86_64V2, 1), 0xb, 1)[0]).toBe(0);
  });

  it("hides the APIC while IA32_APIC_BASE has it off", () => {
    const table = new CpuidTable(x86_64V2, 1);
    table.look(1, 0, 0, false, false);
    expect((table.edx >>> 9) & 1).toBe(0);
  });

  it("answers leaves beyond the limit as the vendor does", () => {
    const table = new CpuidTable(x86_64V2, 1);
    expect(look(table, 0x17)).toEqual(look(table, 0x16));
    expect(look(table, 0x8000_0099)).toEqual(look(table, 0x16));
    expect(look(table, 0xd)).toEqual([0, 0, 0, 0]);
    const bare = new CpuidTable({ name: "bare", leaves: [{ leaf: 0, eax: 1, ebx: 0, ecx: 0, edx: 0 }] }, 1);
    expect(look(bare, 2)).toEqual([0, 0, 0, 0]);
  });
});
