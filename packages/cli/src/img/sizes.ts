import { CommandFailed } from "../host.ts";

const SUFFIXES = ["", "K", "M", "G", "T", "P", "E"];

/** A size as qemu-img takes it: a number, maybe with a fraction, and `K` `M` `G` `T` `P` `E` in powers of 1024. */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+)(\.\d+)?([bkmgtpe]?)$/i.exec(text.trim());
  const hex = /^0x[0-9a-f]+$/i.exec(text.trim());
  if (hex !== null) return Number(hex[0]);
  const suffix = (match?.[3] ?? "").toUpperCase().replace("B", "");
  const value =
    match === null ? NaN : Number(`${match[1] ?? ""}${match[2] ?? ""}`) * 1024 ** SUFFIXES.indexOf(suffix);
  if (!Number.isSafeInteger(Math.floor(value)) || (match?.[2] !== undefined && suffix === "")) {
    throw new CommandFailed(
      1,
      `${what}: expected a size such as 65536, 512K or 1.5G, below 8 PiB, found '${text}'`,
    );
  }
  return Math.floor(value);
}

export function parseCount(text: string, what: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new CommandFailed(1, `${what}: expected a whole number, found '${text}'`);
  }
  return value;
}

/** `10 MiB`, with three significant digits as qemu-img has them. */
export function humanSize(bytes: number): string {
  let unit = 0;
  // 1000 KiB are 0.977 MiB: the next unit from where three digits would not do.
  while (bytes / 1024 ** unit >= 1000 && unit < SUFFIXES.length - 1) unit += 1;
  const value = bytes / 1024 ** unit;
  return `${String(roundHalfEven(value, value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3))} ${unit === 0 ? "" : `${SUFFIXES[unit] ?? ""}i`}B`;
}

/** Rounds to a number of decimals, halves to the even digit as C's printf does. */
export function roundHalfEven(value: number, decimals: number): number {
  const scaled = value * 10 ** decimals;
  const below = Math.floor(scaled);
  const isEvenHalf = scaled - below === 0.5 && below % 2 === 0;
  return (isEvenHalf ? below : Math.round(scaled)) / 10 ** decimals;
}
