import type { IoHandler, IoWidth } from "@northbridge/core/contracts";
import type { RegisterHooks } from "./behaviour.ts";
import type { RegisterLayout } from "./register-layout.ts";

/** What decoders share with their register file. */
export interface DecoderParts {
  /** Values by name. */
  readonly values: Record<string, number | number[]>;
  readonly hooks: Readonly<Record<string, RegisterHooks | undefined>>;
  readonly sync: (() => void) | undefined;
}

interface Element {
  readonly layout: RegisterLayout;
  readonly index: number;
  readonly offset: number;
}

/**
 * The decoder for accesses that are not one whole register: parts of one, several at once, gaps. Each register that an
 * access touches is read or written once, lowest first. Gaps read as zero.
 */
export class PartialAccess implements IoHandler {
  /** Accesses that touched no register. */
  unhandled = 0;
  readonly #elements: readonly Element[];
  /** Element at each byte offset, or -1. */
  readonly #at: Int32Array;
  readonly #parts: DecoderParts;

  readonly #readsOnes: boolean;

  constructor(elements: ElementTable, parts: DecoderParts, readsOnes: boolean) {
    this.#readsOnes = readsOnes;
    this.#elements = elements.elements;
    this.#at = elements.at;
    this.#parts = parts;
  }

  read(offset: number, width: IoWidth): number {
    let result = 0;
    let last = -1;
    for (let byte = 0; byte < width; byte++) {
      const at = this.#at[offset + byte] ?? -1;
      if (at < 0 && this.#readsOnes) result |= 0xff << (8 * byte);
      if (at === last || at < 0) continue;
      last = at;
      const element = this.#elements[at];
      if (element === undefined) continue;
      const shift = 8 * (element.offset - offset);
      const part = this.#readElement(element, laneOf(element, offset, width));
      if (!Number.isFinite(part)) return part; // no number: the bus says so
      result |= shiftLeft(part, shift);
    }
    if (last < 0) this.unhandled++;
    return width === 4 ? result >>> 0 : result & (2 ** (8 * width) - 1);
  }

  /** Gives on what a hook gave that must not be: a promise. */
  write(offset: number, width: IoWidth, value: number): unknown {
    let last = -1;
    let promise: unknown;
    for (let byte = 0; byte < width; byte++) {
      const at = this.#at[offset + byte] ?? -1;
      if (at === last || at < 0) continue;
      last = at;
      const element = this.#elements[at];
      if (element === undefined) continue;
      const lane = laneOf(element, offset, width);
      const bits = shiftLeft(value, 8 * (offset - element.offset)) & lane;
      promise = this.#writeElement(element, lane, bits) ?? promise;
    }
    if (last < 0) this.unhandled++;
    return promise;
  }

  #readElement({ layout, index }: Element, lane: number): number {
    const { values, hooks, sync } = this.#parts;
    const held = values[layout.name];
    const stored = typeof held === "number" ? held : (held?.[index] ?? 0);
    const cleared = (stored & ~(layout.masks.rc & lane)) >>> 0;
    if (cleared !== stored) this.#store(layout.name, index, cleared);
    const hook = hooks[layout.name];
    const shown = hook?.read === undefined ? stored : hook.read(stored, index);
    if (!Number.isFinite(shown)) return shown;
    if (cleared !== stored) sync?.();
    const ones = this.#readsOnes ? ~layout.masks.show : 0;
    return ((shown & layout.masks.show) | ones) & lane;
  }

  #writeElement({ layout, index }: Element, lane: number, written: number): Promise<unknown> | undefined {
    const { values, hooks, sync } = this.#parts;
    const { masks, name } = layout;
    const held = values[name];
    const previous = typeof held === "number" ? held : (held?.[index] ?? 0);
    const store = masks.store & lane;
    const next =
      (((previous & ~store) | (written & store) | (written & masks.w1s)) & ~(written & masks.w1c)) >>> 0;
    this.#store(name, index, next);
    const done: unknown = hooks[name]?.write?.(next, previous, written >>> 0, index);
    const synced: unknown = sync?.();
    return done instanceof Promise ? done : synced instanceof Promise ? synced : undefined;
  }

  #store(name: string, index: number, value: number): void {
    const held = this.#parts.values[name];
    if (typeof held === "object") held[index] = value;
    else this.#parts.values[name] = value;
  }
}

/** Which element of which register is at each byte. Made once for a map. */
export interface ElementTable {
  readonly elements: readonly Element[];
  readonly at: Int32Array;
}

export function elementTable(layouts: readonly RegisterLayout[], length: number): ElementTable {
  const elements: Element[] = [];
  const at = new Int32Array(length).fill(-1);
  for (const layout of layouts) {
    for (let index = 0; index < layout.count; index++) {
      const offset = layout.offset + index * layout.stride;
      at.fill(elements.length, offset, offset + layout.width);
      elements.push({ layout, index, offset });
    }
  }
  return { elements, at };
}

/** Bits of the element that an access of `width` bytes at `offset` touches. */
function laneOf(element: Element, offset: number, width: IoWidth): number {
  const from = Math.max(0, offset - element.offset);
  const to = Math.min(element.layout.width, offset + width - element.offset);
  const bytes = to - from;
  return ((bytes === 4 ? 0xffff_ffff : 2 ** (8 * bytes) - 1) << (8 * from)) >>> 0;
}

/** Shifts left by `by` bits, right where it is negative. */
function shiftLeft(value: number, by: number): number {
  return by >= 0 ? value << by : value >>> -by;
}
