import { digestOf } from "./trace-record.ts";

/** Bytes as text: what JSON of a trace has in their place. */
export const hexOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from({ length: hex.length / 2 }, (_, at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16));

/** JSON in ASCII: one byte of a trace for each character. */
export const asciiJson = (value: unknown): string =>
  JSON.stringify(value ?? null).replaceAll(
    /[\u0080-\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** The value if JSON can hold it as it is, else `null`. */
export function plainOrNull(value: unknown): unknown {
  return isPlain(value) ? value : null;
}

function isPlain(value: unknown): boolean {
  if (typeof value === "object" && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value);
    const isData = prototype === Object.prototype || prototype === Array.prototype || prototype === null;
    return isData && Object.values(value).every(isPlain);
  }
  return typeof value !== "function" && typeof value !== "symbol" && typeof value !== "bigint";
}

/** Longer byte arrays that a device passes are told apart by digest. */
const LONGEST_WRITTEN_OUT = 64;

/**
 * How a trace writes what passes between a device and a service: byte arrays by contents, or by digest where they are
 * longer than `longest`; functions and symbols by number.
 */
export function describeArgument(
  value: unknown,
  number: (object: object) => number,
  longest: number = LONGEST_WRITTEN_OUT,
): unknown {
  if (value instanceof Uint8Array) {
    return value.length > longest
      ? { $length: value.length, $digest: digestOf(value) }
      : { $bytes: hexOf(value) };
  }
  if (typeof value === "function") return { $function: number(value) };
  if (typeof value === "symbol" || value === undefined) return null;
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => describeArgument(item, number, longest));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, describeArgument(item, number, longest)]),
  );
}

/** Undoes `describeArgument` for data; functions are gone. */
export function revive(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if ("$bytes" in value && typeof value.$bytes === "string") return bytesOf(value.$bytes);
  if (Array.isArray(value)) return value.map(revive);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item)]));
}

/** The byte arrays in a list of arguments, in the order in which they stand there. */
export function byteArraysIn(value: unknown): readonly Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(byteArraysIn);
}
