/**
 * A small encoder of ACPI machine language (ACPI 6.4 §20): the objects that describe hardware, no control flow.
 * Every function answers with the bytes of one term.
 */
export type Aml = readonly number[];

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const QWORD_PREFIX = 0x0e;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const EXT_OP_PREFIX = 0x5b;
const DEVICE_OP = 0x82;
const ROOT_CHAR = 0x5c;

/** A name of one segment, padded with `_`; a leading backslash makes it absolute. */
export function nameString(name: string): Aml {
  const root = name.startsWith("\\");
  const segment = (root ? name.slice(1) : name).padEnd(4, "_");
  if (!/^[A-Z_][A-Z0-9_]{3}$/.test(segment)) {
    throw new RangeError(`ACPI name: expected up to four of A–Z, 0–9 and _, found ${JSON.stringify(name)}`);
  }
  return [...(root ? [ROOT_CHAR] : []), ...ascii(segment)];
}

/** An integer in its shortest form. */
export function integer(value: number): Aml {
  if (value === 0) return [ZERO_OP];
  if (value === 1) return [ONE_OP];
  if (value <= 0xff) return [BYTE_PREFIX, value];
  if (value <= 0xffff) return [WORD_PREFIX, ...littleEndian(value, 2)];
  if (value <= 0xffff_ffff) return [DWORD_PREFIX, ...littleEndian(value, 4)];
  return [QWORD_PREFIX, ...littleEndian(value, 8)];
}

export function string(value: string): Aml {
  return [STRING_PREFIX, ...ascii(value), 0];
}

/** A hardware identifier: the compressed EISA form of `PNP0501`, a string for `LNRO0005`. */
export function hardwareId(id: string): Aml {
  const eisa = /^([A-Z]{3})([0-9A-F]{4})$/.exec(id);
  if (eisa === null) return string(id);
  const [a = 0, b = 0, c = 0] = ascii(eisa[1] ?? "").map((letter) => letter - 0x40);
  const vendor = (a << 10) | (b << 5) | c;
  const product = Number.parseInt(eisa[2] ?? "", 16);
  // §19.3.4: big-endian vendor and product, read as a little-endian integer.
  return [DWORD_PREFIX, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
}

export function name(key: string, value: Aml): Aml {
  return [NAME_OP, ...nameString(key), ...value];
}

/** A package of at most 255 elements. */
export function packageOf(elements: readonly Aml[]): Aml {
  return [PACKAGE_OP, ...withLength([elements.length, ...elements.flat()])];
}

export function buffer(bytes: readonly number[]): Aml {
  return [BUFFER_OP, ...withLength([...integer(bytes.length), ...bytes])];
}

export function scope(path: string, terms: readonly Aml[]): Aml {
  return [SCOPE_OP, ...withLength([...nameString(path), ...terms.flat()])];
}

export function device(id: string, terms: readonly Aml[]): Aml {
  return [EXT_OP_PREFIX, DEVICE_OP, ...withLength([...nameString(id), ...terms.flat()])];
}

export function littleEndian(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Math.floor(value / 256 ** index) % 256);
}

/** PkgLength (§20.2.4) before the content; it counts its own bytes. */
function withLength(content: readonly number[]): number[] {
  if (content.length + 1 < 0x40) return [content.length + 1, ...content];
  for (let extra = 1; extra <= 3; extra++) {
    const length = content.length + 1 + extra;
    if (length >= 2 ** (4 + 8 * extra)) continue;
    return [(extra << 6) | (length & 0xf), ...littleEndian(Math.floor(length / 16), extra), ...content];
  }
  throw new RangeError(`AML: expected less than 256 MiB of content, found ${content.length} bytes`);
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0) & 0x7f);
}
