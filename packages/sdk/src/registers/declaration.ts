/**
 * What a guest may do with bits of a register, in the letters of data sheets:
 * `ro` read only, `rw` read and write, `wo` reads as zero, `w1c` a written one clears, `w1s` a written one sets,
 * `rc` a read clears, `reserved` keeps its reset value.
 */
export type RegisterAccess = "ro" | "rw" | "wo" | "w1c" | "w1s" | "rc" | "reserved";

/** A bit field. `E` are the names of its values. */
export interface FieldSpec<E extends string = string> {
  /** Lowest bit. */
  readonly lsb: number;
  /** Bits. */
  readonly width: number;
  /** @defaultValue the register's */
  readonly access?: RegisterAccess | undefined;
  /** The device changes it by itself or gives back something else: fuzzers expect nothing of what is read. */
  readonly volatile?: boolean | undefined;
  readonly values?: Readonly<Record<E, number>> | undefined;
  readonly description?: string | undefined;
}

/** One register, or an array of equal ones. */
export interface RegisterSpec {
  /** From the start of the region, in bytes. */
  readonly offset: number;
  /** Bytes. A 64-bit register is two, low half first. @defaultValue 4 */
  readonly width?: 1 | 2 | 4;
  /** Of an array, one for all or one for each. @defaultValue 0 */
  readonly reset?: number | readonly number[];
  /** @defaultValue `"rw"` */
  readonly access?: RegisterAccess;
  /** As of {@link FieldSpec}, for all bits. */
  readonly volatile?: boolean;
  /** Not where the device keeps what is behind it itself, and hooks make what is read. @defaultValue true */
  readonly isSaved?: boolean;
  /** Values worth trying, for fuzzers: addresses, lengths, keys. */
  readonly examples?: readonly number[];
  /** Bits that no field covers are reserved. Without fields all bits have the register's access. */
  readonly fields?: Readonly<Record<string, FieldSpec>>;
  /** Makes it an array. */
  readonly count?: number;
  /** Bytes from one element to the next. @defaultValue the width */
  readonly stride?: number;
  readonly description?: string;
}

/** Registers by name. */
export type RegisterSpecs = Readonly<Record<string, RegisterSpec>>;

/** Register values by name: numbers, and arrays of numbers for arrays of registers. */
export type RegisterValues<R extends RegisterSpecs> = {
  -readonly [K in keyof R]: R[K] extends { readonly count: number } ? number[] : number;
};

/** The mask of every field, in place: `CTRL.ENABLE`. */
export type FieldMasks<R extends RegisterSpecs> = {
  readonly [K in keyof R]: {
    readonly [F in keyof R[K]["fields"]]: number;
  };
};

interface FieldOptions {
  readonly access?: RegisterAccess;
  readonly volatile?: boolean;
  readonly description?: string;
}

/** A field of one bit. */
export function bit(lsb: number, options: FieldOptions = {}): FieldSpec<never> {
  return { lsb, width: 1, ...options };
}

/** A field of `width` bits from `lsb` up, with names for its values where it has some. */
export function bits<const E extends string = never>(
  lsb: number,
  width: number,
  options: FieldOptions & { readonly values?: Readonly<Record<E, number>> } = {},
): FieldSpec<E> {
  return { lsb, width, ...options };
}

/** Where the field of this mask is in a register's value. */
export function fieldOf(value: number, mask: number): number {
  return (value & mask) >>> lowestBit(mask);
}

/** `value` with the field of this mask replaced. Bits that do not fit are cut off. */
export function withField(value: number, mask: number, field: number): number {
  return ((value & ~mask) | ((field << lowestBit(mask)) & mask)) >>> 0;
}

function lowestBit(mask: number): number {
  return 31 - Math.clz32(mask & -mask);
}

export function fieldMask({ lsb, width }: FieldSpec): number {
  return (width === 32 ? 0xffff_ffff : ((1 << width) - 1) << lsb) >>> 0;
}
