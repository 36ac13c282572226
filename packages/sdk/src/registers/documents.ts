import { NorthbridgeError } from "@northbridge/core/contracts";
import { fieldMask, type RegisterSpecs } from "./declaration.ts";
import type { RegisterMap } from "./register-map.ts";

const hex = (value: number): string => `0x${value.toString(16).padStart(2, "0")}`;

/** The register reference, as Markdown. */
export function registerReference<R extends RegisterSpecs>(map: RegisterMap<R>): string {
  const lines = [
    `## ${map.name}`,
    "",
    "| Offset | Register | Bytes | Access | Reset | |",
    "|---|---|---|---|---|---|",
    ...map.layouts.map(({ name, offset, width, resets, isArray, count, stride, spec }) =>
      row(
        isArray ? `${hex(offset)} + ${stride} × n` : hex(offset),
        isArray ? `${name}[${count}]` : name,
        String(width),
        spec.access ?? "rw",
        [...new Set(resets)].map(hex).join(", "),
        spec.description ?? "",
      ),
    ),
  ];
  for (const { name, spec } of map.layouts) {
    if (spec.fields === undefined) continue;
    lines.push("", `### ${name}`, "", "| Bits | Field | Access | Values | |", "|---|---|---|---|---|");
    for (const [field, { lsb, width, access, values, description }] of Object.entries(spec.fields)) {
      lines.push(
        row(
          width === 1 ? String(lsb) : `${lsb + width - 1}:${lsb}`,
          field,
          access ?? spec.access ?? "rw",
          Object.entries(values ?? {})
            .map(([value, number]) => `${number} ${value}`)
            .join(", "),
          description ?? "",
        ),
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

/** A cell is one line, and ends at a `|`. */
const row = (...cells: readonly string[]): string =>
  `| ${cells.map((cell) => cell.replaceAll(/\s*\n\s*/g, " ").replaceAll("|", "\\|")).join(" | ")} |`.replaceAll(
    / +/g,
    " ",
  );

/**
 * Offsets and masks for a driver in C. Names are `PREFIX_REGISTER` and `PREFIX_REGISTER_FIELD`, and where that is
 * another register's, `PREFIX_REGISTER_FIELD_MASK`. Throws `NB_CONFIG` where two are alike all the same.
 */
export function cHeader<R extends RegisterSpecs>(
  map: RegisterMap<R>,
  options: { readonly prefix?: string } = {},
): string {
  const prefix = identifier(options.prefix ?? map.name)
    .toUpperCase()
    .replace(/^(?=\d)/, "_");
  const guard = `${prefix}_REGS_H`;
  const names = new MacroNames(map.name, prefix);
  names.take("the header's guard", ["REGS_H"]);
  for (const { name, isArray } of map.layouts) {
    names.take(name, [name]);
    if (isArray) names.take(`the length of ${name}`, [`${name}_COUNT`]);
  }
  const lines = [`#ifndef ${guard}`, `#define ${guard}`];
  const define = (name: string, value: string): void => void lines.push(`#define ${name} ${value}`);
  for (const { name, offset, isArray, count, stride, spec } of map.layouts) {
    lines.push("");
    if (spec.description !== undefined)
      lines.push(`/* ${spec.description.replaceAll("*/", "* /").replaceAll("/*", "/ *")} */`);
    const register = names.of(name);
    if (isArray) {
      define(`${register}(n)`, `(${hex(offset)} + ${stride} * (n))`);
      define(`${register}_COUNT`, String(count));
    } else {
      define(register, hex(offset));
    }
    for (const [field, fieldSpec] of Object.entries(spec.fields ?? {})) {
      const path = `${name}.${field}`;
      const plain = `${name}_${field}`;
      define(
        names.take(path, [plain, `${plain}_MASK`]),
        `0x${fieldMask(fieldSpec).toString(16).padStart(8, "0")}u`,
      );
      if (fieldSpec.width > 1)
        define(names.take(`the shift of ${path}`, [`${plain}_SHIFT`]), String(fieldSpec.lsb));
      for (const [value, number] of Object.entries(fieldSpec.values ?? {})) {
        define(names.take(`${path} = ${value}`, [`${plain}_${value}`]), `(${number}u << ${fieldSpec.lsb})`);
      }
    }
  }
  return `${[...lines, "", `#endif /* ${guard} */`].join("\n")}\n`;
}

const identifier = (name: string): string => name.replaceAll(/[^A-Za-z0-9_]+/g, "_");

/** The macros of a header: one of each name. */
class MacroNames {
  readonly #map: string;
  readonly #prefix: string;
  /** What each name stands for. */
  readonly #taken = new Map<string, string>();

  constructor(map: string, prefix: string) {
    this.#map = map;
    this.#prefix = prefix;
  }

  of(name: string): string {
    return `${this.#prefix}_${identifier(name)}`;
  }

  /** The first of these names that is free. Throws `NB_CONFIG`. */
  take(what: string, names: readonly [string, ...string[]]): string {
    const macros = names.map((name) => this.of(name));
    const free = macros.find((macro) => !this.#taken.has(macro));
    if (free !== undefined) {
      this.#taken.set(free, what);
      return free;
    }
    const [first = ""] = macros;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${this.#map}: ${what} and ${this.#taken.get(first) ?? ""} would both be ${first} in C; rename one of them`,
    );
  }
}
