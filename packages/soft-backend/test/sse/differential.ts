/** Cases, run on the core, in the form in which they are compared with the host or with the golden vectors. */
import {
  CASE_SIZE,
  CaseField,
  type Encoding,
  type Instruction,
  STATUS_FLAGS,
  assemble,
  nameOf,
} from "./case.ts";
import { type Core, Info } from "./core.ts";
import { Random, generate } from "./generator.ts";
import { plain } from "./encodings.ts";

export interface Trial {
  readonly encoding: Encoding;
  readonly instruction: Instruction;
  /** With the machine code, ready for the harness. */
  readonly input: Uint8Array<ArrayBuffer>;
}

/** RCPPS, RSQRTPS and their scalar forms: the result is specified by a bound on its error. */
export const isApproximation = (e: Encoding): boolean =>
  e.map === 1 && (e.opcode === 0x52 || e.opcode === 0x53);

/** `count` reproducible cases of one encoding. */
export function trials(core: Core, encoding: Encoding, seed: number, count: number): Trial[] {
  const { map, prefix, opcode, group, rexw, memory } = encoding;
  const salt =
    (map << 20) | (prefix << 16) | (opcode << 8) | ((group + 1) << 2) | (Number(rexw) << 1) | Number(memory);
  const random = new Random(Math.imul(seed, 0x2545f491) ^ salt);
  const hasImm = (core.info(plain(encoding)) & Info.IMM8) !== 0;
  return Array.from({ length: count }, () => {
    const { instruction, input } = generate(encoding, random);
    const code = assemble(instruction, hasImm);
    input.set(code, CaseField.CODE);
    new DataView(input.buffer).setUint16(CaseField.LENGTH, code.length, true);
    return { encoding, instruction, input };
  });
}

/** Clears what is not an outcome. */
export function outcome(state: Uint8Array): Uint8Array {
  const result = Uint8Array.from(state);
  const view = new DataView(result.buffer);
  view.setUint32(CaseField.FLAGS, view.getUint32(CaseField.FLAGS, true) & STATUS_FLAGS, true);
  result.fill(0, CaseField.PLACE, CaseField.FSW);
  return result;
}

export function executeOnCore(core: Core, trial: Trial): Uint8Array {
  const state = Uint8Array.from(trial.input);
  core.execute(trial.instruction, state);
  return outcome(state);
}

/** FNV-1a over the 32-bit words of an outcome. */
export function digest(state: Uint8Array): number {
  const view = new DataView(state.buffer, state.byteOffset);
  let hash = 0x811c9dc5;
  for (let at = 0; at < CASE_SIZE; at += 4) {
    hash = Math.imul(hash ^ view.getUint32(at, true), 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}

const hex = (bytes: Uint8Array): string => Buffer.from(Uint8Array.from(bytes).reverse()).toString("hex");

const dump = (s: Uint8Array): string[] => {
  const view = new DataView(s.buffer, s.byteOffset);
  const out: string[] = [];
  for (let i = 0; i < 4; i++) out.push(`xmm${i}=${hex(s.subarray(16 * i, 16 * i + 16))}`);
  for (let i = 0; i < 4; i++)
    out.push(
      `mm${i}=${hex(s.subarray(64 + 8 * i, 72 + 8 * i))}:${view.getUint16(180 + 2 * i, true).toString(16)}`,
    );
  for (let i = 0; i < 4; i++)
    out.push(`${["rax", "rcx", "rdx", "rbx"][i]}=${hex(s.subarray(96 + 8 * i, 104 + 8 * i))}`);
  out.push(`mem=${hex(s.subarray(128, 144))}`);
  out.push(
    `mxcsr=${view.getUint32(144, true).toString(16)}`,
    `flags=${(view.getUint32(148, true) & STATUS_FLAGS).toString(16)}`,
  );
  out.push(
    `trap=${view.getUint32(152, true)}`,
    `fsw=${view.getUint16(176, true).toString(16)}`,
    `ftag=${view.getUint16(178, true).toString(16)}`,
  );
  return out;
};

/** What went in, and the differences, for a failure message. */
export function explain(trial: Trial, expected: Uint8Array | undefined, found: Uint8Array): string {
  const { instruction: i } = trial;
  const code = hex(
    trial.input
      .subarray(CaseField.CODE, CaseField.CODE + 16)
      .slice(0, trial.input[CaseField.LENGTH])
      .reverse(),
  );
  const before = dump(trial.input);
  const after = dump(found);
  const right = expected ? dump(expected) : after;
  const changes = after.flatMap((text, n) =>
    expected && text !== right[n] ? [`  expected ${right[n]!}\n  found    ${text}`] : [],
  );
  return `${nameOf(i)}: ${code}\n  in ${before.join(" ")}\n${changes.length ? changes.join("\n") : `  found ${after.join(" ")}`}`;
}
