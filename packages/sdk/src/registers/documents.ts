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

const row = (...cells: readonly string[]): string => `| ${cells.join(" | ")} |`.replaceAll(/ +/g, " ");

/** Offsets and masks for a driver in C. Names are `PREFIX_REGISTER` and `PREFIX_REGISTER_FIELD`. */
export function cHeader<R extends RegisterSpecs>(
  map: RegisterMap<R>,
  options: { readonly prefix?: string } = {},
): string {
  const prefix = (options.prefix ?? map.name).replaceAll(/[^A-Za-z0-9]+/g, "_").toUpperCase();
  const guard = `${prefix}_REGS_H`;
  const lines = [`#ifndef ${guard}`, `#define ${guard}`];
  const define = (name: string, value: string): void => void lines.push(`#define ${prefix}_${name} ${value}`);
  for (const { name, offset, isArray, count, stride, spec } of map.layouts) {
    lines.push("");
    if (spec.description !== undefined) lines.push(`/* ${spec.description.replaceAll("*/", "* /")} */`);
    if (isArray) {
      define(`${name}(n)`, `(${hex(offset)} + ${stride} * (n))`);
      define(`${name}_COUNT`, String(count));
    } else {
      define(name, hex(offset));
    }
    for (const [field, fieldSpec] of Object.entries(spec.fields ?? {})) {
      const mask = fieldMask(fieldSpec);
      define(`${name}_${field}`, `0x${mask.toString(16).padStart(8, "0")}u`);
      if (fieldSpec.width > 1) define(`${name}_${field}_SHIFT`, String(fieldSpec.lsb));
      for (const [value, number] of Object.entries(fieldSpec.values ?? {})) {
        define(`${name}_${field}_${value}`, `(${number}u << ${fieldSpec.lsb})`);
      }
    }
  }
  return `${[...lines, "", `#endif /* ${guard} */`].join("\n")}\n`;
}
