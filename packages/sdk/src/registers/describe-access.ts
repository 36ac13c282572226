import type { IoWidth } from "@northbridge/core/contracts";
import { fieldMask, fieldOf, type RegisterSpec, type RegisterSpecs } from "./declaration.ts";
import type { RegisterMap } from "./register-map.ts";

/** A register's value with names: `0x3 { ENABLE MODE=ONESHOT }`. Fields that are 0 are left out. */
export function describeValue(spec: RegisterSpec, value: number): string {
  const parts: string[] = [];
  for (const [name, field] of Object.entries(spec.fields ?? {})) {
    const content = fieldOf(value, fieldMask(field));
    const named = Object.entries(field.values ?? {}).find(([, number]) => number === content)?.[0];
    if (named !== undefined) parts.push(`${name}=${named}`);
    else if (content !== 0) parts.push(field.width === 1 ? name : `${name}=${content}`);
  }
  const number = `0x${value.toString(16)}`;
  return parts.length === 0 ? number : `${number} { ${parts.join(" ")} }`;
}

/** The name of what an access touches: `CTRL`, `LIMIT[2]`, `CTRL+1` of one byte, `0x24` where there is nothing. */
export function describeOffset<R extends RegisterSpecs>(map: RegisterMap<R>, offset: number): string {
  for (const layout of map.layouts) {
    const { name, isArray, stride, count, width } = layout;
    const index = Math.floor((offset - layout.offset) / stride);
    const byte = offset - layout.offset - index * stride;
    if (index < 0 || index >= count || byte >= width) continue;
    return `${name}${isArray ? `[${index}]` : ""}${byte === 0 ? "" : `+${byte}`}`;
  }
  return `0x${offset.toString(16)}`;
}

/** One line of a trace: `write CTRL = 0x1 { ENABLE }`. */
export function describeAccess<R extends RegisterSpecs>(
  map: RegisterMap<R>,
  direction: "read" | "write",
  offset: number,
  width: IoWidth,
  value: number,
): string {
  const name = describeOffset(map, offset);
  const spec = map.specs[name.replace(/\[\d+\]$/, "")];
  const isWhole = spec !== undefined && (spec.width ?? 4) === width;
  const text = isWhole ? describeValue(spec, value) : `0x${value.toString(16)} (${width} bytes)`;
  return `${direction} ${name} = ${text}`;
}
