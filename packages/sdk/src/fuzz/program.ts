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
  readonly map?: RegisterMap<RegisterSpecs> | undefined;
}

/** Offsets behind are left alone: what is wider than a page repeats itself. */
const MOST_BYTES = 4096;
/** Registers that are written in one go. */
const MOST_PROGRAMMED = 8;
const WIDTHS: readonly IoWidth[] = [1, 2, 4];

/** Lists of steps, biased to whole registers, to values that fields have, and to times at which timers fire. */
export function programs(places: readonly Place[], memoryBytes: number): fc.Arbitrary<Step[]> {
  const accesses = places.flatMap((place) => [
    ...(place.map === undefined
      ? []
      : [
          { arbitrary: knownAccess(place, place.map).map(one), weight: 8 },
          { arbitrary: programming(place, place.map), weight: 1 },
        ]),
    { arbitrary: anyAccess(place).map(one), weight: place.map === undefined ? 8 : 1 },
  ]);
  const advance = fc.record({
    op: fc.constant("advance" as const),
    ns: fc.oneof(fc.constantFrom(1, 1000, 1_000_000, 1_000_000_000), fc.nat(3_000_000)),
  });
  // Where registers may point to, half of the time.
  const pointedTo = places
    .flatMap(({ map }) => map?.layouts.flatMap(({ spec }) => spec.examples ?? []) ?? [])
    .filter((gpa) => gpa >= MOST_BYTES && gpa < memoryBytes - 16);
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
        { arbitrary: fc.constant([{ op: "timer" } as const]), weight: 2 },
        { arbitrary: memory.map(one), weight: 1 },
      ),
      { minLength: 1, maxLength: 40 },
    )
    .map((groups) => groups.flat());
}

const one = (step: Step): Step[] => [step];

/** What drivers do: registers written one after the other, and then the device works. */
function programming({ space, base }: Place, map: RegisterMap<RegisterSpecs>): fc.Arbitrary<Step[]> {
  const writable = map.layouts
    .filter(({ masks }) => (masks.store | masks.w1s) !== 0 && masks.w1c === 0)
    .slice(-MOST_PROGRAMMED);
  return fc
    .tuple(
      ...writable.map((layout) =>
        fc.option(
          valueOf(layout).map((value): Step => {
            const { width, offset } = layout;
            return { op: "write", space, address: base + offset, width, value };
          }),
          { freq: 8 },
        ),
      ),
    )
    .map((steps) => [...steps.filter((step) => step !== null), { op: "timer" }]);
}

function knownAccess(place: Place, map: RegisterMap<RegisterSpecs>): fc.Arbitrary<Step> {
  return fc.oneof(
    ...map.layouts.map((layout) =>
      fc
        .record({
          index: fc.nat(layout.count - 1),
          isWrite: fc.nat(2).map((n) => n > 0),
          value: valueOf(layout),
        })
        .map(({ index, isWrite, value }): Step => {
          const { space, base } = place;
          const address = base + layout.offset + index * layout.stride;
          const { width } = layout;
          return isWrite
            ? { op: "write", space, address, width, value }
            : { op: "read", space, address, width };
        }),
    ),
  );
}

/** Field by field: nothing, everything, a named value, or anything. */
function valueOf({ spec, width, resets }: RegisterLayout): fc.Arbitrary<number> {
  const all = 2 ** (8 * width) - 1;
  const fields = Object.values(spec.fields ?? {});
  const plain = fc.oneof(
    fc.constantFrom(0, 1, ...resets.slice(0, 4), all, ...(spec.examples ?? [])),
    fc.nat(all),
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
