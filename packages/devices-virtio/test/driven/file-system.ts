import { VirtioFs } from "@northbridge/devices-virtio";
import fc from "fast-check";
import { type DrivenDevice, u32, u64 } from "./driven-device.ts";
import { HeldAnswers, hold } from "./held-answers.ts";
import { MemoryTree } from "./memory-tree.ts";

// linux/include/uapi/linux/fuse.h: operations, and how long their arguments in front of a name are.
const OPCODES = [
  ...[
    1, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 20, 20, 20, 20, 20, 20, 22, 25, 26, 27,
    28, 29, 30,
  ],
  ...[34, 35, 35, 36, 38, 42, 43, 44, 45, 46, 99],
];
const [LOOKUP, CREATE, MKDIR, MKNOD, RENAME2] = [1, 35, 9, 8, 45];
const NAME_AT: Readonly<Record<number, number>> = { [CREATE]: 16, [MKDIR]: 8, [MKNOD]: 16, [RENAME2]: 16 };

const number = fc.oneof(fc.nat(4), fc.constantFrom(1, 2, 24, 512, 4096, 0xffff, 2 ** 32, 2 ** 53, 2 ** 63));
const name = fc.constantFrom("a", "b", "a\0b", "..", ".", "", "a/b", "x".repeat(300));

const head = fc
  .record({
    length: fc.constantFrom(40, 56, 0, 0xffff_ffff),
    opcode: fc.constantFrom(...OPCODES),
    node: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(1, 1, 2, 3) }, { weight: 1, arbitrary: number }),
    numbers: fc.array(number, { minLength: 5, maxLength: 11 }),
    name,
  })
  .map(({ length, opcode, node, numbers, name: text }) => {
    const at = opcode === LOOKUP ? 0 : (NAME_AT[opcode] ?? 8);
    const args = numbers.flatMap(u64);
    const isNamed = [1, 6, 8, 9, 10, 11, 12, 13, 35, 45].includes(opcode);
    const bytes = isNamed ? [...args.slice(0, at), ...Array.from(text, (c) => c.charCodeAt(0)), 0, 0] : args;
    const owner = [...u32(0), ...u32(0), ...u32(1), ...u32(0)];
    return [...u32(length), ...u32(opcode), ...u64(7), ...u64(node), ...owner, ...bytes];
  });

export const fileSystem: DrivenDevice = {
  name: "fs",
  underWay: ["inHost", "waiting"],
  host: () => {
    const answers = new HeldAnswers();
    const tree = new MemoryTree(answers);
    return {
      device: () => new VirtioFs({ tree, tag: "shared", requestQueues: 2 }),
      act: (choice) => {
        hold(answers, choice);
      },
      answers,
    };
  },
  head,
  lengths: [16, 40, 56, 80, 120, 144, 512, 2048],
  shapes: [
    [
      [40, 40],
      [16, 512],
    ],
    [
      [40, 8, 2],
      [16, 128],
    ],
    [
      [40, 40, 512],
      [16, 8],
    ],
    [[128], [160]],
    [[128], [16]],
    [[56], []],
  ],
};
