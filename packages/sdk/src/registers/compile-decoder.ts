import type { IoHandler } from "@northbridge/core/contracts";
import type { RegisterHooks } from "./behaviour.ts";
import type { DecoderParts } from "./partial-access.ts";
import type { RegisterLayout } from "./register-layout.ts";

/** Makes the decoder of one device. Accesses that are not one whole register go to `partial`. */
export type DecoderFactory = (parts: DecoderParts, partial: IoHandler) => IoHandler;

/**
 * Compiles a register map to a `switch` on offsets for each width, with masks as constants and calls only where there
 * are hooks: three times as fast as a table of closures.
 * Only names and numbers that `layOut` checked become code, so nothing but the author's map can be in it.
 */
export function compileDecoder(
  layouts: readonly RegisterLayout[],
  hooks: Readonly<Record<string, RegisterHooks | undefined>>,
  hasSync: boolean,
  readsOnes: boolean,
): DecoderFactory {
  const body = `"use strict";
const { values, hooks, sync } = parts;
${layouts
  .flatMap(({ name }) => [
    hooks[name]?.read && `const read_${name} = hooks.${name};`,
    hooks[name]?.write && `const write_${name} = hooks.${name};`,
  ])
  .filter(Boolean)
  .join("\n")}
return {
  read(offset, width) {
${byWidth(layouts, (layout, at) => readStatements(layout, at, hooks[layout.name], hasSync, readsOnes))}
    return partial.read(offset, width);
  },
  write(offset, width, value) {
${byWidth(layouts, (layout, at) => writeStatements(layout, at, hooks[layout.name], hasSync))}
    return partial.write(offset, width, value);
  },
};`;
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the point of this file: see above
  return new Function("parts", "partial", body) as DecoderFactory;
}

/** `registers` is where the code finds the value, `index` what hooks are told. */
interface Place {
  readonly value: string;
  readonly index: string;
}

type Statements = (layout: RegisterLayout, place: Place) => string;

function byWidth(layouts: readonly RegisterLayout[], statements: Statements): string {
  const widths = [4, 1, 2].filter((width) => layouts.some((layout) => layout.width === width));
  return widths
    .map((width) => {
      const ofWidth = layouts.filter((layout) => layout.width === width);
      const scalars = ofWidth.filter(({ isArray }) => !isArray);
      const arrays = ofWidth.filter(({ isArray }) => isArray);
      return `    if (width === ${width}) {
      switch (offset) {
${scalars.map((layout) => `        case ${layout.offset}: {${statements(layout, { value: `values.${layout.name}`, index: "0" })}}`).join("\n")}
        default:
${arrays.map((layout) => arrayCase(layout, statements)).join("\n")}
      }
    }`;
    })
    .join("\n");
}

function arrayCase(layout: RegisterLayout, statements: Statements): string {
  const { name, offset, stride, count } = layout;
  const place = { value: `values.${name}[index]`, index: "index" };
  return `          if (offset >= ${offset} && offset < ${offset + count * stride} && (offset - ${offset}) % ${stride} === 0) {
            const index = (offset - ${offset}) / ${stride};${statements(layout, place)}
          }`;
}

function readStatements(
  { name, masks, width }: RegisterLayout,
  { value, index }: Place,
  hooks: RegisterHooks | undefined,
  hasSync: boolean,
  readsOnes: boolean,
): string {
  const shown = hooks?.read ? "shown" : "stored";
  // What is no number goes as it is to the bus, which says so.
  const show = hooks?.read
    ? `const shown = read_${name}.read(stored, ${index}); if (!Number.isFinite(shown)) return shown;`
    : "";
  const all = 2 ** (8 * width) - 1;
  // A stored value always fits; what a hook returns is made to.
  const ones = readsOnes && masks.show !== all ? ` | ${(all & ~masks.show) | 0}` : "";
  const result = hooks?.read || masks.show !== all ? `(${shown} & ${masks.show | 0}${ones}) >>> 0` : shown;
  if (masks.rc === 0) return ` const stored = ${value}; ${show} return ${result}; `;
  return ` const stored = ${value};
            const cleared = (stored & ${~masks.rc}) >>> 0;
            ${value} = cleared;
            ${show}
            const result = ${result};
            ${hasSync ? "if (cleared !== stored) sync();" : ""}
            return result; `;
}

function writeStatements(
  { name, masks, width }: RegisterLayout,
  { value, index }: Place,
  hooks: RegisterHooks | undefined,
  hasSync: boolean,
): string {
  const all = 2 ** (8 * width) - 1;
  const { store, w1s, w1c } = masks;
  const cut = width === 4 ? "value" : `value & ${all}`;
  let next =
    store === all
      ? "written"
      : store === 0
        ? "previous"
        : `(previous & ${~store}) | (written & ${store | 0})`;
  if (w1s !== 0) next = `(${next}) | (written & ${w1s | 0})`;
  if (w1c !== 0) next = `(${next}) & ~(written & ${w1c | 0})`;
  return ` const previous = ${value};
            const written = (${cut}) >>> 0;
            const next = (${next}) >>> 0;
            ${next === "previous" ? "" : `${value} = next;`}
            ${hooks?.write ? passOn(`write_${name}.write(next, previous, written, ${index})`) : ""}
            ${hasSync ? passOn("sync()") : ""}
            return; `;
}

/** A call that must be done when it returns: a promise goes to the bus, which refuses it by the device's name. */
const passOn = (call: string): string =>
  `{ const done = ${call}; if (done instanceof Promise) return done; }`;
