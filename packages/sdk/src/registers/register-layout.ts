import { type IoWidth, NorthbridgeError } from "@northbridge/core/contracts";
import { fieldMask, type RegisterAccess, type RegisterSpec, type RegisterSpecs } from "./declaration.ts";

/** A register with everything a decoder has to know of it. */
export interface RegisterLayout {
  readonly name: string;
  readonly offset: number;
  readonly width: IoWidth;
  /** Of each element. */
  readonly resets: readonly number[];
  readonly isArray: boolean;
  readonly count: number;
  readonly stride: number;
  /** Bits of each access. What is in none of them is read only. */
  readonly masks: AccessMasks;
  readonly spec: RegisterSpec;
}

/** Bits by what a guest may do with them. */
export interface AccessMasks {
  /** A write replaces them: `rw` and `wo`. */
  readonly store: number;
  /** Reads show them. */
  readonly show: number;
  readonly w1c: number;
  readonly w1s: number;
  readonly rc: number;
  /** Of which nothing is promised to readers. */
  readonly volatile: number;
  /** Nobody has them: they keep their reset value. */
  readonly reserved: number;
}

/** Most elements of an array of registers. */
const MOST_ELEMENTS = 4096;
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;

/** Checks what an author declared and computes masks. Throws `NB_CONFIG` naming the register and what is wrong. */
export function layOut(map: string, specs: RegisterSpecs): readonly RegisterLayout[] {
  const layouts = Object.entries(specs).map(([name, spec]) => layOutOne(map, name, spec));
  const owner = new Map<number, string>();
  for (const { name, offset, width, count, stride } of layouts) {
    for (let index = 0; index < count; index++) {
      for (let byte = 0; byte < width; byte++) {
        const at = offset + index * stride + byte;
        const other = owner.get(at);
        if (other !== undefined) throw refuse(map, name, `offset 0x${at.toString(16)} belongs to ${other}`);
        owner.set(at, name);
      }
    }
  }
  return layouts.toSorted((a, b) => a.offset - b.offset);
}

function layOutOne(map: string, name: string, spec: RegisterSpec): RegisterLayout {
  const { offset, width = 4, reset = 0, count = 1 } = spec;
  const isCount = Number.isInteger(count) && count > 0 && count <= MOST_ELEMENTS;
  const resets =
    typeof reset !== "number" ? reset : isCount ? Array.from({ length: count }, () => reset) : [];
  const stride = spec.stride ?? width;
  const all = 2 ** (8 * width) - 1;
  const expect = (holds: boolean, reason: string): void => {
    if (!holds) throw refuse(map, name, reason);
  };
  expect(NAME.test(name), "a name is letters, digits and _, and starts with a letter");
  expect(Number.isInteger(offset) && offset >= 0, `offset ${offset} is not an integer from 0`);
  expect(isCount, `count ${count} is not from 1 to ${MOST_ELEMENTS}`);
  expect(resets.length === count, `${resets.length} reset values for ${count} registers`);
  for (const value of resets) {
    const isValue = Number.isInteger(value) && value >= 0 && value <= all;
    expect(isValue, `reset value ${value} has not ${width} bytes`);
  }
  expect(Number.isInteger(stride) && stride >= width, `stride ${stride} is less than the width ${width}`);
  return {
    name,
    offset,
    width,
    resets,
    isArray: spec.count !== undefined,
    count,
    stride,
    masks: masksOf(map, name, spec, all),
    spec,
  };
}

function masksOf(map: string, name: string, spec: RegisterSpec, all: number): AccessMasks {
  const ofAccess: Record<RegisterAccess, number> = {
    ro: 0,
    rw: 0,
    wo: 0,
    w1c: 0,
    w1s: 0,
    rc: 0,
    reserved: 0,
  };
  const standard = spec.access ?? "rw";
  if (spec.fields === undefined) ofAccess[standard] = all;
  let taken = 0;
  let volatile = spec.volatile === true ? all : 0;
  for (const [field, fieldSpec] of Object.entries(spec.fields ?? {})) {
    const { lsb, width } = fieldSpec;
    const isInside = lsb >= 0 && width > 0 && lsb + width <= 32;
    const mask = isInside ? fieldMask(fieldSpec) : 0;
    if (!NAME.test(field) || !isInside || mask > all) {
      throw refuse(map, `${name}.${field}`, `bits ${lsb} to ${lsb + width - 1} are not in the register`);
    }
    if ((taken & mask) !== 0) throw refuse(map, `${name}.${field}`, "another field has some of its bits");
    for (const [value, number] of Object.entries(fieldSpec.values ?? {})) {
      if (!Number.isInteger(number) || number < 0 || number >= 2 ** width) {
        throw refuse(map, `${name}.${field}`, `value ${value} = ${number} has not ${width} bits`);
      }
    }
    taken |= mask;
    if (fieldSpec.volatile === true) volatile |= mask;
    ofAccess[fieldSpec.access ?? standard] |= mask;
  }
  return {
    store: (ofAccess.rw | ofAccess.wo) >>> 0,
    show: (all & ~ofAccess.wo) >>> 0,
    w1c: ofAccess.w1c >>> 0,
    w1s: ofAccess.w1s >>> 0,
    rc: ofAccess.rc >>> 0,
    volatile: volatile >>> 0,
    reserved: (ofAccess.reserved | (spec.fields === undefined ? 0 : all & ~taken)) >>> 0,
  };
}

function refuse(map: string, register: string, reason: string): NorthbridgeError {
  return new NorthbridgeError("NB_CONFIG", `register map ${map}: ${register}: ${reason}`);
}
