import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { CASE_SIZE, CaseField, type Encoding, assemble, nameOf } from "./sse/case.ts";
import { type Core, Info, loadCore } from "./sse/core.ts";
import {
  type Trial,
  digest,
  executeOnCore,
  explain,
  isApproximation,
  outcome,
  trials,
} from "./sse/differential.ts";
import { candidates, isKnown, knownEncodings, plain } from "./sse/encodings.ts";
import { readGolden } from "./sse/golden.ts";
import { campaign } from "./fuzz/campaign.ts";
import { buildHarness, executeOnHost, hostLacks } from "./sse/host.ts";

let core: Core;
beforeAll(async () => {
  core = await loadCore();
}, 60_000);

const MAX_REPORTED = 5;

describe("golden vectors of a host CPU", () => {
  test("every encoding gives the recorded results", { timeout: 60_000 }, () => {
    const { seed, entries } = readGolden();
    const failures: string[] = [];
    for (const { encoding, digests } of entries) {
      for (const [i, trial] of trials(core, encoding, seed, digests.length).entries()) {
        const found = executeOnCore(core, trial);
        if ((digest(found) & 0xffff) !== digests[i]) {
          failures.push(explain(trial, undefined, found));
          break;
        }
      }
    }
    expect(failures.slice(0, MAX_REPORTED).join("\n")).toBe("");
    expect(entries.length).toBeGreaterThan(700);
  });

  test("every known encoding is recorded", () => {
    const recorded = new Set(readGolden().entries.map(({ encoding }) => nameOf(encoding)));
    const missing = knownEncodings(core).filter((e) => !isApproximation(e) && !recorded.has(nameOf(e)));
    expect(missing.map(nameOf)).toEqual([]);
  });
});

describe("RCPPS and RSQRTPS", () => {
  const bits = new Uint32Array(1);
  const value = new Float32Array(bits.buffer);
  const state = new Uint8Array(CASE_SIZE);
  const view = new DataView(state.buffer);

  /** The result in lane 3, or in lane 0 of the scalar form. */
  const approximate = (opcode: number, prefix: number, operand: number): number => {
    for (let at = 0; at < 64; at += 4) view.setUint32(CaseField.XMM + at, operand, true);
    view.setUint32(CaseField.MXCSR, 0x1f80, true);
    core.execute(
      { map: 1, prefix, opcode, group: -1, rexw: false, memory: false, reg: 1, rm: 2, imm: 0 },
      state,
    );
    expect(view.getUint32(CaseField.MXCSR, true)).toBe(0x1f80);
    return view.getUint32(CaseField.XMM + 16 + (prefix ? 0 : 12), true);
  };
  const asFloat = (pattern: number): number => {
    bits[0] = pattern;
    return value[0]!;
  };

  test("the relative error is at most 1.5 · 2^-12", () => {
    // Operands whose reciprocal is a normal number.
    const operand = fc.integer({ min: 0x01000000, max: 0x7e7fffff });
    fc.assert(
      fc.property(operand, fc.constantFrom(0, 2), (pattern, prefix) => {
        const x = asFloat(pattern);
        expect(Math.abs(asFloat(approximate(0x53, prefix, pattern)) * x - 1)).toBeLessThanOrEqual(1.5 / 4096);
        expect(Math.abs(asFloat(approximate(0x52, prefix, pattern)) * Math.sqrt(x) - 1)).toBeLessThanOrEqual(
          1.5 / 4096,
        );
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    // operand, 1/x, 1/√x (Intel SDM vol. 2, RCPPS and RSQRTPS)
    [0x00000000, 0x7f800000, 0x7f800000],
    [0x80000000, 0xff800000, 0xff800000],
    [0x00000001, 0x7f800000, 0x7f800000],
    [0x807fffff, 0xff800000, 0xff800000],
    [0x7f800000, 0x00000000, 0x00000000],
    [0xff800000, 0x80000000, 0xffc00000],
    [0xfe800001, 0x80000000, 0xffc00000],
    [0x7fa00001, 0x7fe00001, 0x7fe00001],
    [0xffc12345, 0xffc12345, 0xffc12345],
  ])("of %i", (operand, reciprocal, root) => {
    expect(approximate(0x53, 0, operand)).toBe(reciprocal);
    expect(approximate(0x53, 2, operand)).toBe(reciprocal);
    expect(approximate(0x52, 0, operand)).toBe(root);
    expect(approximate(0x52, 2, operand)).toBe(root);
  });
});

const lacking = hostLacks();

describe.skipIf(lacking !== undefined)(
  `this host's CPU${lacking === undefined ? "" : ` (needs ${lacking})`}`,
  () => {
    beforeAll(buildHarness, 60_000);

    const join = (all: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(all));
    const part = (all: Uint8Array, i: number): Uint8Array => all.subarray(i * CASE_SIZE, (i + 1) * CASE_SIZE);

    test("fresh cases agree in registers, memory, flags, MXCSR, x87 state and exceptions", {
      timeout: 600_000,
    }, () => {
      campaign((seed) => {
        const all: Trial[] = knownEncodings(core)
          .filter((encoding) => !isApproximation(encoding))
          .flatMap((encoding) => trials(core, encoding, seed, 40));
        const results = executeOnHost(join(all.map(({ input }) => input)));
        const failures: string[] = [];
        for (const [i, trial] of all.entries()) {
          const expected = outcome(part(results, i));
          const found = executeOnCore(core, trial);
          if (Buffer.compare(expected, found) !== 0) failures.push(explain(trial, expected, found));
          if (failures.length === MAX_REPORTED) break;
        }
        expect(failures.join("\n"), `seed ${seed}`).toBe("");
      });
    });

    /** A case with everything zero and masked, whose memory operand is at `place` (see the harness). */
    const probe = (encoding: Encoding, place: number, trailer: readonly number[]): Uint8Array => {
      const state = new Uint8Array(CASE_SIZE);
      const view = new DataView(state.buffer);
      const code = [...assemble(plain(encoding), false), ...trailer];
      state.set(code, CaseField.CODE);
      view.setUint16(CaseField.LENGTH, code.length, true);
      view.setUint16(CaseField.PLACE, place, true);
      view.setUint32(CaseField.MXCSR, 0x1f80, true);
      view.setUint32(CaseField.FLAGS, 0x202, true);
      return state;
    };
    const traps = (probes: readonly Uint8Array[]): number[] => {
      const results = executeOnHost(join(probes));
      return probes.map((_, i) =>
        new DataView(results.buffer).getUint32(i * CASE_SIZE + CaseField.TRAP, true),
      );
    };

    /** Instructions in the same parts of the opcode maps that are not of this unit, or not of x86-64-v2. */
    const isElsewhere = ({ map, prefix, opcode }: Encoding): boolean => {
      if (map === 1) return opcode === 0x2b && prefix > 1; // MOVNTSS, MOVNTSD (SSE4a)
      if (map === 2) return (opcode >= 0x80 && opcode <= 0x83) || (opcode >= 0xc8 && opcode <= 0xcf); // INVPCID, SHA, GFNI
      return opcode >= 0xcc && opcode <= 0xcf; // SHA, GFNI
    };

    test("the same encodings are legal", () => {
      const all = [...candidates()].filter((encoding) => !isElsewhere(encoding));
      const found = traps(all.map((encoding) => probe(encoding, 0, [0x90]))); // NOP, or the immediate
      const wrong = all.filter((encoding, i) => isKnown(core, encoding) !== (found[i] !== 6));
      expect(wrong.map(nameOf)).toEqual([]);
      expect(all.length).toBeGreaterThan(5000);
    });

    test("memory operands have the size and alignment that sseInfo tells", () => {
      const all = knownEncodings(core).filter(({ memory }) => memory);
      const size = (encoding: Encoding): number => core.info(plain(encoding)) & Info.SIZE;
      const trailer = (encoding: Encoding): number[] => (core.info(plain(encoding)) & Info.IMM8 ? [0] : []);
      const fits = traps(all.map((encoding) => probe(encoding, size(encoding), trailer(encoding))));
      const tooShort = traps(all.map((encoding) => probe(encoding, size(encoding) - 1, trailer(encoding))));
      const shifted = traps(all.map((encoding) => probe(encoding, 0x101, trailer(encoding))));
      const wrong = all.filter((encoding, i) => {
        const aligned = (core.info(plain(encoding)) & Info.ALIGNED) !== 0;
        if (fits[i] !== 0 || shifted[i] !== (aligned ? 13 : 0)) return true;
        // A place of 0 means anywhere: single bytes cannot be cut short.
        return size(encoding) > 1 && tooShort[i] !== (aligned ? 13 : 14);
      });
      expect(wrong.map(nameOf)).toEqual([]);
      expect(all.length).toBeGreaterThan(300);
    });
  },
);
