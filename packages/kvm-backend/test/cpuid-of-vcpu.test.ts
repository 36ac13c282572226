import { x86_64V2 } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { leavesOf } from "../src/abi/cpuid-of-vcpu.ts";

const PLACE = { index: 2, vcpus: 3, tscKhz: 2_445_000 };

describe("CPUID of one processor", () => {
  const leaves = leavesOf(x86_64V2, PLACE);
  const look = (leaf: number, subleaf?: number): object =>
    leaves.find((entry) => entry.leaf === leaf && entry.subleaf === subleaf)!;

  it("has the software CPU's topology: one package, a core a processor", () => {
    expect(look(1)).toMatchObject({ ebx: ((2 << 24) | (3 << 16) | 0x800) >>> 0 });
    expect(look(0xb, 0)).toMatchObject({ eax: 0, ebx: 1, ecx: 0x100, edx: 2 });
    expect(look(0xb, 1)).toMatchObject({ eax: 2, ebx: 3, ecx: 0x201, edx: 2 });
    expect(look(4, 0)).toMatchObject({ eax: 0x121 | (2 << 26) });
    expect(look(4, 3)).toMatchObject({ eax: 0x163 | (2 << 14) | (2 << 26) });
  });

  it("gives the counter's frequency of this host, by a crystal that is the APIC timer's", () => {
    expect(look(0x15)).toMatchObject({ eax: 1e6, ebx: 2_445_000, ecx: 1e9 });
    expect(look(0x16)).toMatchObject({ eax: 2445, ebx: 2445, ecx: 100 });
    expect(look(0x4000_0010)).toMatchObject({ eax: 2_445_000, ebx: 1e6 });
  });

  it("has the machine's topology, whatever KVM proposes of the host's", () => {
    const model = {
      name: "host",
      leaves: [
        { leaf: 0, eax: 0xb, ebx: 0, ecx: 0, edx: 0 },
        { leaf: 1, eax: 7, ebx: 0x0102_0800, ecx: 0, edx: 0 },
        { leaf: 0xb, subleaf: 1, eax: 4, ebx: 9, ecx: 0x201, edx: 0 },
      ],
    };
    expect(leavesOf(model, PLACE)).toMatchObject([
      { leaf: 0 },
      { leaf: 1, ebx: 0x0203_0800 },
      { leaf: 0xb, subleaf: 0, ebx: 1, edx: 2 },
      { leaf: 0xb, subleaf: 1, eax: 2, ebx: 3, edx: 2 },
      { leaf: 0xb, subleaf: 2 },
    ]);
  });
});
