import fc from "fast-check";
import type { VirtioBenchOptions } from "../../testing/virtio/virtio-bench.ts";
import { buffersOf, type DrivenVirtioDevice, type RequestShape } from "./driven-device.ts";

/** Layout of the rings, and order of their use. */
export type Rings = Pick<VirtioBenchOptions, "packed" | "inOrder">;

/** All of them. */
export const RINGS: readonly Rings[] = [
  { packed: false },
  { packed: true },
  { packed: false, inOrder: true },
  { packed: true, inOrder: true },
];

/** What a hostile driver, its machine or the device's other end does. Numbers that are too large wrap around. */
export type HostileOperation =
  | {
      /** Offers a request, to a queue that it may not belong in. */
      readonly do: "add";
      readonly queue: number;
      /** Its first bytes. */
      readonly head: readonly number[];
      readonly buffers: RequestShape;
      readonly misplaced: boolean;
      readonly indirect: boolean;
      readonly notify: boolean;
    }
  /** Writes over a queue's descriptors and rings. */
  | { readonly do: "poke"; readonly queue: number; readonly at: number; readonly value: number }
  | { readonly do: "notify" | "collect" | "reset" | "enable" | "disable"; readonly queue: number }
  | { readonly do: "act"; readonly choice: number }
  | { readonly do: "status"; readonly value: number }
  /** A reset and a driver's start, which takes all features but that one, if it is one. */
  | { readonly do: "restart"; readonly refuses: number }
  | { readonly do: "config"; readonly offset: number; readonly value: number }
  | { readonly do: "pause"; readonly resumes: boolean }
  | { readonly do: "save" };

// Valid requests slightly broken: uniform bytes are refused at the first look.
const value = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 4, 8, 16, 0x40, 0x80, 0x8000, 0xffff, 0x1000),
  fc.nat(0xffff),
);
const queue = fc.nat(8);
const one = <const T extends string>(name: T): fc.Arbitrary<T> => fc.constant(name);

/** Operations on such a device, most of them requests. */
export const hostileOperation = (driven: DrivenVirtioDevice): fc.Arbitrary<HostileOperation> =>
  fc.oneof(
    {
      weight: 16,
      arbitrary: fc.record({
        do: one("add"),
        queue,
        head: driven.head,
        buffers: buffersOf(driven, 30),
        misplaced: fc.boolean(),
        indirect: fc.boolean(),
        notify: fc.boolean(),
      }),
    },
    { weight: 4, arbitrary: fc.record({ do: one("poke"), queue, at: fc.nat(200), value }) },
    { weight: 4, arbitrary: fc.record({ do: one("notify"), queue: fc.nat(9) }) },
    { weight: 4, arbitrary: fc.record({ do: one("collect"), queue }) },
    { weight: 8, arbitrary: fc.record({ do: one("act"), choice: fc.nat(5000) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: one("status"), value: fc.constantFrom(0, 1, 3, 7, 11, 15, 0x8f, 0xff) }),
    },
    { weight: 2, arbitrary: fc.record({ do: one("restart"), refuses: fc.nat(63) }) },
    { weight: 2, arbitrary: fc.record({ do: one("config"), offset: fc.nat(64), value }) },
    { weight: 1, arbitrary: fc.record({ do: one("reset"), queue }) },
    { weight: 1, arbitrary: fc.record({ do: one("enable"), queue }) },
    { weight: 1, arbitrary: fc.record({ do: one("disable"), queue }) },
    { weight: 1, arbitrary: fc.record({ do: one("pause"), resumes: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: one("save") }) },
  );

const MOST_OPERATIONS = 60;

/** What a hostile driver does. Half of them leave the rings whole: what is used there can then be judged. */
export const hostilePrograms = (driven: DrivenVirtioDevice): fc.Arbitrary<readonly HostileOperation[]> =>
  fc
    .tuple(fc.boolean(), fc.array(hostileOperation(driven), { maxLength: MOST_OPERATIONS, size: "max" }))
    .map(([pokes, all]) => (pokes ? all : all.filter((operation) => operation.do !== "poke")));
