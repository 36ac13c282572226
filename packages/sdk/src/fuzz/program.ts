import type { IoWidth } from "@northbridge/core/contracts";
import fc from "fast-check";
import { fieldMask, type RegisterSpecs, withField } from "../registers/declaration.ts";
import type { RegisterLayout } from "../registers/register-layout.ts";
import type { RegisterMap } from "../registers/register-map.ts";

/** One thing that happens to a device. Addresses are those of the bus. */
export type Step =
  | { readonly op: "read"; readonly space: Space; readonly address: number; readonly width: IoWidth }
  | {
      readonly op: "write";
      readonly space: Space;
      readonly address: number;
      readonly width: IoWidth;
      readonly value: number;
    }
  | { readonly op: "advance"; readonly ns: number }
  /** Time passes until the device's next timer. */
  | { readonly op: "timer" }
  /** The guest puts something where the device may look for it. */
  | { readonly op: "memory"; readonly gpa: number; readonly bytes: readonly number[] };

export type Space = "mmio" | "ports";

/** Where a device answers, and what is known of the registers there. */
export interface Place {
  readonly space: Space;
  readonly base: number;
  /** Bytes. */
  readonly length: number;
  readonly registers: readonly KnownRegister[];
}

/** A register, or an array of them, and what a driver may write there. */
export interface KnownRegister {
  /** From the base of its place. */
  readonly offset: number;
  readonly width: IoWidth;
  readonly count: number;
  readonly stride: number;
  readonly values: fc.Arbitrary<number>;
  /** Writes set the device up, as opposed to acknowledging what it did. */
  readonly isSetUp: boolean;
  /** Guest-physical addresses that it may be given. */
  readonly addresses: readonly number[];
}

/** Offsets behind are left alone: what is wider than a page repeats itself. */
export const MOST_BYTES = 4096;
/** Registers that are written in one go. */
const MOST_PROGRAMMED = 8;
const WIDTHS: readonly IoWidth[] = [1, 2, 4];

/** Something else than zeroes, for devices to move. */
const SOMETHING: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 8];

const isInMemory = (gpa: number, memoryBytes: number): boolean => gpa >= MOST_BYTES && gpa < memoryBytes - 16;

/** Lists of steps, biased to whole registers, to values that fields have, and to times at which timers fire. */
export function programs(places: readonly Place[], memoryBytes: number): fc.Arbitrary<Step[]> {
  const accesses = places.flatMap((place) => [
    ...(place.registers.length === 0
      ? []
      : [
          { arbitrary: knownAccess(place).map(one), weight: 8 },
          { arbitrary: settingUp(place), weight: 1 },
          ...(programmed(place).filter(({ addresses }) => addresses.length > 0).length < 2
            ? []
            : [{ arbitrary: thereAndBack(place, memoryBytes), weight: 2 }]),
        ]),
    { arbitrary: anyAccess(place).map(one), weight: place.registers.length === 0 ? 8 : 1 },
  ]);
  const advance = fc.record({
    op: fc.constant("advance" as const),
    ns: fc.oneof(fc.constantFrom(1, 1000, 1_000_000, 1_000_000_000), fc.nat(3_000_000)),
  });
  // Where registers may point to, half of the time.
  const pointedTo = places
    .flatMap(({ registers }) => registers.flatMap(({ addresses }) => addresses))
    .filter((gpa) => isInMemory(gpa, memoryBytes));
  const anywhere = fc.nat(memoryBytes - 16);
  const memory = fc.record({
    op: fc.constant("memory" as const),
    gpa: pointedTo.length === 0 ? anywhere : fc.oneof(fc.constantFrom(...pointedTo), anywhere),
    bytes: fc.array(fc.oneof(fc.constantFrom(0, 1, 0xff), fc.nat(255)), { minLength: 1, maxLength: 16 }),
  });
  return fc
    .array(
      fc.oneof(
        ...accesses,
        { arbitrary: advance.map(one), weight: 1 },
        { arbitrary: fc.constantFrom(1, 1, 2, 8).map(timers), weight: 2 },
        { arbitrary: memory.map(one), weight: 1 },
      ),
      { minLength: 1, maxLength: 40 },
    )
    .map((groups) => groups.flat());
}

const one = (step: Step): Step[] => [step];
const timers = (count: number): Step[] => Array.from({ length: count }, () => ({ op: "timer" }));

/** What a register map says of its registers, as a fuzzer wants to know it. */
export function knownRegisters(map: RegisterMap<RegisterSpecs>): readonly KnownRegister[] {
  return map.layouts.map((layout) => {
    const { offset, width, count, stride, masks, spec } = layout;
    return {
      ...{ offset, width, count, stride },
      values: valuesOf(layout),
      isSetUp: (masks.store | masks.w1s) !== 0 && masks.w1c === 0,
      addresses: spec.examples ?? [],
    };
  });
}

/** What drivers do: registers written one after the other, and then the device works. */
function settingUp(place: Place): fc.Arbitrary<Step[]> {
  const writable = programmed(place);
  return fc
    .tuple(...writable.map(({ values }) => fc.option(values, { freq: 8 })))
    .map((values) => [...writesOf(place, writable, values), { op: "timer" }]);
}

/** What drivers do with a DMA engine: set it up, let it work, and then again with two registers exchanged. */
function thereAndBack(place: Place, memoryBytes: number): fc.Arbitrary<Step[]> {
  const writable = programmed(place);
  const pointers = writable.flatMap(({ addresses }, at) => (addresses.length === 0 ? [] : [at]));
  const values = fc.tuple(
    ...writable.map((register) =>
      register.addresses.length === 0
        ? register.values
        : fc.oneof(
            { arbitrary: fc.constantFrom(...register.addresses), weight: 4 },
            { arbitrary: fc.constantFrom(...edgesOf(register.addresses, register.width)), weight: 1 },
          ),
    ),
  );
  return fc
    .record({ there: values, other: values, at: fc.nat(Math.max(0, pointers.length - 2)) })
    .map(({ there, other, at }): Step[] => {
      const [one = 0, two = 0] = pointers.slice(at);
      const back = other.map((value, index) => (pointers.includes(index) ? (there[index] ?? value) : value));
      [back[one], back[two]] = [back[two] ?? 0, back[one] ?? 0];
      const sources = writable.flatMap(({ addresses }) =>
        addresses.filter((gpa) => isInMemory(gpa, memoryBytes)),
      );
      return [
        ...sources.map((gpa): Step => ({ op: "memory", gpa, bytes: SOMETHING })),
        ...writesOf(place, writable, there),
        ...timers(2),
        ...writesOf(place, writable, back),
        ...timers(2),
      ];
    });
}

const programmed = ({ registers }: Place): readonly KnownRegister[] =>
  registers.filter(({ isSetUp }) => isSetUp).slice(-MOST_PROGRAMMED);

function writesOf(
  { space, base }: Place,
  registers: readonly KnownRegister[],
  values: readonly (number | null)[],
): Step[] {
  return registers.flatMap(({ offset, width }, at): Step[] => {
    const value = values[at] ?? null;
    return value === null ? [] : [{ op: "write", space, address: base + offset, width, value }];
  });
}

function knownAccess({ space, base, registers }: Place): fc.Arbitrary<Step> {
  return fc.oneof(
    ...registers.map(({ offset, stride, count, width, values }) =>
      fc
        .record({ index: fc.nat(count - 1), isWrite: fc.nat(2).map((n) => n > 0), value: values })
        .map(({ index, isWrite, value }): Step => {
          const address = base + offset + index * stride;
          return isWrite
            ? { op: "write", space, address, width, value }
            : { op: "read", space, address, width };
        }),
    ),
  );
}

/** Checks of lengths and limits go wrong by one. */
const edgesOf = (values: readonly number[], width: IoWidth): readonly number[] =>
  values
    .flatMap((value) => [value - 1, value + 1].map((edge) => edge & (2 ** (8 * width) - 1)))
    .map((edge) => edge >>> 0);

/** Field by field: nothing, everything, a named value, or anything; and what the map has for examples. */
function valuesOf({ spec, width, resets }: RegisterLayout): fc.Arbitrary<number> {
  const all = 2 ** (8 * width) - 1;
  const { examples = [] } = spec;
  const edges = examples.length === 0 ? [] : edgesOf(examples, width);
  const fields = Object.values(spec.fields ?? {});
  const plain = fc.oneof(
    fc.constantFrom(0, 1, ...resets.slice(0, 4), all),
    fc.nat(all),
    ...(examples.length === 0 ? [] : [{ arbitrary: fc.constantFrom(...examples), weight: 4 }]),
    ...(edges.length === 0 ? [] : [fc.constantFrom(...edges)]),
  );
  if (fields.length === 0) return plain;
  const composed = fc
    .tuple(
      ...fields.map(({ width: bits, values }) =>
        fc.oneof(fc.constantFrom(0, 1, 2 ** bits - 1, ...Object.values(values ?? {})), fc.nat(2 ** bits - 1)),
      ),
    )
    .map((parts) =>
      fields.reduce((value, field, at) => withField(value, fieldMask(field), parts[at] ?? 0), 0),
    );
  return fc.oneof({ arbitrary: composed, weight: 4 }, { arbitrary: plain, weight: 1 });
}

function anyAccess({ space, base, length }: Place): fc.Arbitrary<Step> {
  const reach = Math.min(length, MOST_BYTES);
  return fc
    .record({
      offset: fc.nat(reach - 1),
      width: fc.constantFrom(...WIDTHS),
      isWrite: fc.boolean(),
      value: fc.oneof(fc.constantFrom(0, 1, 0x80, 0xff, 0xffff_ffff), fc.nat(0xff), fc.nat(0xffff_ffff)),
    })
    .map(({ offset, width, isWrite, value }): Step => {
      const fitting = offset + width > length ? 1 : width;
      const address = base + offset;
      if (!isWrite) return { op: "read", space, address, width: fitting };
      return { op: "write", space, address, width: fitting, value: value % 2 ** (8 * fitting) };
    });
}
