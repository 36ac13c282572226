import { describe, expect, it } from "vitest";
import {
  type CpuidLeaf,
  type CpuModel,
  cpuFeatureNames,
  findCpuFeature,
  hasFeature,
  missingFeatures,
} from "../contracts/index.ts";
import { parseMachineConfig } from "../config/machine-schema.ts";
import { type CpuChoice, configuredCpu, describeCpu } from "./configured-cpu.ts";

/** SSE4.2 and POPCNT are bits 20 and 23 of leaf 1's ECX (Intel SDM 2A, CPUID). */
const SSE4_2 = 2 ** 20;
const POPCNT = 2 ** 23;
const AES = 2 ** 25;
const AVX = 2 ** 28;
const XSAVE = 2 ** 26;

const model: CpuModel = {
  name: "plain",
  leaves: [
    { leaf: 0, eax: 0x16, ebx: 0, ecx: 0, edx: 0 },
    { leaf: 1, eax: 0, ebx: 0, ecx: (SSE4_2 | POPCNT | (2 ** 31)) >>> 0, edx: 1 },
    { leaf: 7, subleaf: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
    { leaf: 7, subleaf: 1, eax: 0, ebx: 0, ecx: 0, edx: 0 },
    { leaf: 0x8000_0001, eax: 0, ebx: 0, ecx: 0, edx: 2 ** 29 },
  ],
};
const backend: CpuChoice = { name: "fake", cpuModels: () => [model, { ...model, name: "other" }] };
/** A backend that can do more than its default model shows: everything but AVX. */
const able: CpuChoice = {
  ...backend,
  unmetClaims: ({ leaves }) =>
    leaves.some(({ leaf, ecx }) => leaf === 1 && (ecx & AVX) !== 0) ? ["AVX"] : [],
};
const word = (cpu: CpuModel | undefined, leaf: number, register: "ecx" | "edx" | "ebx"): number | undefined =>
  cpu?.leaves.find((entry) => entry.leaf === leaf)?.[register];

describe("the processor of a config", () => {
  it("is the backend's default, a named model, or one with features shown and hidden", () => {
    expect(configuredCpu(undefined, backend)).toBeUndefined();
    expect(configuredCpu({}, backend)).toBe(model);
    expect(configuredCpu({ model: "other" }, backend)?.name).toBe("other");
    expect(configuredCpu({ tscKhz: 2_600_000 }, backend)).toEqual({ ...model, tscKhz: 2_600_000 });
    const changed = configuredCpu({ features: { popcnt: false, "SSE4.2": true, aes: true } }, able);
    expect(changed?.name).toBe("plain -popcnt +sse4_2 +aes");
    expect(word(changed, 1, "ecx")).toBe((SSE4_2 | (2 ** 25) | (2 ** 31)) >>> 0);
    expect(word(configuredCpu({ features: { lm: false } }, backend), 0x8000_0001, "edx")).toBe(0);
    expect(word(model, 1, "ecx")).toBe((SSE4_2 | POPCNT | (2 ** 31)) >>> 0);
  });

  it("says in leaf 0xD what XSAVE manages", () => {
    const cpu = configuredCpu({ features: { xsave: true } }, able);
    expect((word(cpu, 1, "ecx") ?? 0) & XSAVE).toBe(XSAVE);
    expect(cpu?.leaves.at(-1)).toMatchObject({ leaf: 0xd, eax: 3, ebx: 576, ecx: 576 });
  });

  it.each([
    [
      { model: "plane" },
      backend,
      'cpu.model: expected a CPU model of the fake backend (plain, other), found "plane"; did you mean "plain"?',
    ],
    [
      { features: { popcn: true } },
      backend,
      'cpu.features.popcn: expected a CPU feature, as /proc/cpuinfo names them, found "popcn"; did you mean "popcnt"?',
    ],
    [{ features: { avx: true } }, able, "cpu.features.avx: the fake backend lacks AVX"],
    [{ features: { avx: true } }, backend, "cpu.features.avx: the fake backend lacks avx"],
    [
      { features: { avx: false } },
      { name: "none" },
      "cpu: the none backend has no CPU models to choose from",
    ],
  ] as const)("is refused by name: %j", (cpu, choice, message) => {
    expect(() => configuredCpu(cpu, choice)).toThrow(expect.objectContaining({ code: "NB_CONFIG", message }));
  });

  it.each([
    [{ cpu: { features: { avx: "yes" } } }, 'cpu.features.avx: expected true or false, found "yes"'],
    [{ cpu: { tscKhz: 0 } }, "cpu.tscKhz: expected a whole number from 1, found 0"],
    [{ cpu: { tscKhz: 2 ** 32 } }, "cpu.tscKhz: expected less than 4294967296, found 4294967296"],
    [{ cpu: { modle: "x" } }, 'cpu: unknown key "modle"; did you mean "model"?'],
  ])("has a shape: %j", (config, message) => {
    expect(() => parseMachineConfig({ memory: { mib: 1 }, ...config })).toThrow(message);
  });

  it("is a model whose features the backend lacks, once they are hidden", () => {
    const greedy = {
      ...model,
      name: "greedy",
      leaves: configuredCpu({ features: { aes: true } }, able)!.leaves,
    };
    const poor: CpuChoice = {
      name: "poor",
      cpuModels: () => [model, greedy],
      unmetClaims: ({ leaves }) =>
        leaves.some(({ leaf, ecx }) => leaf === 1 && (ecx & AES) !== 0) ? ["aes"] : [],
    };
    expect(() => configuredCpu({ model: "greedy" }, poor)).toThrow(
      "cpu.model: greedy has what the poor backend lacks: aes; cpu.features can hide it",
    );
    expect(() => configuredCpu({ model: "greedy", features: { avx: true } }, poor)).toThrow(
      /^cpu\.model: .*aes/,
    );
    expect(configuredCpu({ model: "greedy", features: { aes: false } }, poor)?.name).toBe("greedy -aes");
  });

  it("is the same whatever the punctuation and order of its features", () => {
    expect(describeCpu({ features: { "SSE4.2": false, aes: true } })).toBe(
      describeCpu({ features: { aes: true, sse4_2: false } }),
    );
    expect(describeCpu()).toBe("the default model");
    expect(describeCpu({ tscKhz: 2_600_000 })).toBe("the default model tscKhz 2600000");
  });
});

it("every feature is one bit of its own, and found by its name", () => {
  const places = new Set<string>();
  for (const name of cpuFeatureNames) {
    const feature = findCpuFeature(name);
    expect(feature?.name).toBe(name);
    if (feature === undefined) continue;
    places.add(`${feature.leaf}.${feature.subleaf} ${feature.register} ${feature.bit}`);
    const shown = configuredCpu({ features: { [name]: true } }, { ...backend, unmetClaims: () => [] });
    const hidden = configuredCpu({ features: { [name]: false } }, backend);
    expect([hasFeature(shown ?? model, feature), hasFeature(hidden ?? model, feature)]).toEqual([
      true,
      false,
    ]);
  }
  expect(places.size).toBe(cpuFeatureNames.length);
});

describe("missingFeatures", () => {
  const model = (leaf: number, subleaf: number, registers: Partial<CpuidLeaf>): CpuModel => ({
    name: "m",
    leaves: [{ leaf, subleaf, eax: 0, ebx: 0, ecx: 0, edx: 0, ...registers }],
  });

  it.each([
    ["avx2", 7, 0, { ebx: 0x20 }],
    ["avx_vnni", 7, 1, { eax: 0x10 }],
    ["lam", 7, 1, { eax: 1 << 26 }],
    ["wbnoinvd", 0x8000_0008, 0, { ebx: 0x200 }],
    ["amd_ssbd", 0x8000_0008, 0, { ebx: 1 << 24 }],
    ["XSAVE component 6", 0xd, 0, { eax: 0x40 }],
    ["kvmclock2", 0x4000_0001, 0, { eax: 8 }],
  ] as const)("knows %s", (name, leaf, subleaf, registers) => {
    const [shown, none] = [model(leaf, subleaf, registers), model(leaf, subleaf, {})];
    expect(missingFeatures(shown, none)).toEqual([name]);
    expect([missingFeatures(shown, shown), missingFeatures(none, shown)]).toEqual([[], []]);
  });
});
