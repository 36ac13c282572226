/** All encodings that the instruction set under test can have. */
import { EMMS, type Encoding, type Instruction } from "./case.ts";
import { type Core, Info } from "./core.ts";

/** Parts of the opcode maps that hold MMX and SSE instructions and nothing that a user-mode harness must not execute. */
const RANGES: readonly (readonly [map: number, from: number, to: number])[] = [
  [1, 0x10, 0x17],
  [1, 0x28, 0x2f],
  [1, 0x50, 0x77],
  [1, 0x7c, 0x7f],
  [1, 0xc2, 0xc6],
  [1, 0xd0, 0xff],
  [2, 0x00, 0xef],
  [3, 0x00, 0xff],
];

/** Every map, prefix, opcode, form. Opcode extensions in ModRM.reg of groups 12–14, and REX.W, count as part of it. */
export function* candidates(): Generator<Encoding> {
  for (const [map, from, to] of RANGES) {
    for (let opcode = from; opcode <= to; opcode++) {
      const groups = map === 1 && opcode >= 0x71 && opcode <= 0x73 ? [0, 1, 2, 3, 4, 5, 6, 7] : [-1];
      for (let prefix = 0; prefix < 4; prefix++) {
        for (const group of groups) {
          for (const rexw of [false, true]) {
            for (const memory of [false, true]) {
              if (memory && map === 1 && opcode === EMMS) continue;
              yield { map, prefix, opcode, group, rexw, memory };
            }
          }
        }
      }
    }
  }
}

export const plain = (encoding: Encoding): Instruction => ({ ...encoding, reg: 1, rm: 2, imm: 0 });

/** Whether `sseInfo` describes this form. */
export function isKnown(core: Core, encoding: Encoding): boolean {
  const info = core.info(plain(encoding));
  return info !== 0 && (info & (encoding.memory ? Info.NO_MEMORY : Info.NO_REGISTER)) === 0;
}

/** The known encodings; REX.W only where it can matter. */
export function knownEncodings(core: Core): Encoding[] {
  return [...candidates()].filter((encoding) => {
    if (!isKnown(core, encoding)) return false;
    if (!encoding.rexw) return true;
    const takesLengths = encoding.map === 3 && (encoding.opcode === 0x60 || encoding.opcode === 0x61);
    return takesLengths || (core.info(plain(encoding)) & (Info.REG_GPR | Info.RM_GPR)) !== 0;
  });
}
