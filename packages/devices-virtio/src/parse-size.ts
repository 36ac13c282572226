const UNITS = "KMGT";

/** Bytes of `512`, `64M`, `1.5G` (powers of 1024); undefined for what is no size. */
export function parseSize(text: string): number | undefined {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const bytes = Number(digits) * 1024 ** (unit === "" ? 0 : UNITS.indexOf(unit.toUpperCase()) + 1);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
