import type {
  IoHandler,
  IoWidth,
  Resettable,
  Snapshottable,
  UntrustedHandler,
} from "@northbridge/core/contracts";
import { RestoreError } from "@northbridge/core/contracts";
import type { RegisterSpecs, RegisterValues } from "./declaration.ts";
import type { RegisterLayout } from "./register-layout.ts";

/** Registers as a snapshot holds them. */
export interface RegisterState {
  readonly version: number;
  readonly registers: Readonly<Record<string, number | readonly number[]>>;
}

/** Turns the registers of one version into those of the next. */
export type RegisterUpgrade = (registers: RegisterState["registers"]) => RegisterState["registers"];

/** What the map gives to each of its files. */
export interface RegisterFileParts<R extends RegisterSpecs> {
  readonly name: string;
  readonly version: number;
  readonly upgrades: Readonly<Record<number, RegisterUpgrade>>;
  readonly layouts: readonly RegisterLayout[];
  readonly values: RegisterValues<R>;
  readonly decoder: IoHandler;
  readonly partial: { unhandled: number };
}

/** The registers of one device: their values, and the handler that a guest reaches them by. */
export class RegisterFile<R extends RegisterSpecs>
  implements IoHandler, Resettable, Snapshottable<RegisterState>
{
  /** What the registers hold. The device changes them as it likes: access rules bind the guest alone. */
  readonly values: RegisterValues<R>;
  readonly #parts: RegisterFileParts<R>;
  readonly #decoder: IoHandler;

  constructor(parts: RegisterFileParts<R>) {
    this.values = parts.values;
    this.#parts = parts;
    this.#decoder = parts.decoder;
  }

  /** The compiled decoder: map this where nanoseconds count. */
  get handler(): IoHandler {
    return this.#decoder;
  }

  /** Accesses that touched no register. */
  get unhandled(): number {
    return this.#parts.partial.unhandled;
  }

  read(offset: number, width: IoWidth): number {
    return this.#decoder.read(offset, width);
  }

  write(offset: number, width: IoWidth, value: number): void {
    return (this.#decoder as UntrustedHandler).write(offset, width, value) as undefined; // a promise goes on to the bus
  }

  /** Gives every register its reset value. Hooks and `sync` are not called. */
  reset(): void {
    resetValues(this.#parts.layouts, this.values);
  }

  save(): RegisterState {
    const registers: Record<string, number | readonly number[]> = {};
    const values: Readonly<Record<string, number | readonly number[]>> = this.values;
    for (const { name, spec } of this.#parts.layouts) {
      if (spec.isSaved === false) continue;
      const value = values[name] ?? 0;
      registers[name] = typeof value === "number" ? value : [...value];
    }
    return { version: this.#parts.version, registers };
  }

  /** Loads what `save` gave, of this version or an older one with an upgrade. Throws `RestoreError`; loads all or nothing. */
  restore(state: RegisterState): void {
    const registers = this.#upgraded(state);
    const layouts = this.#parts.layouts.filter(({ spec }) => spec.isSaved !== false);
    const expected = new Set(layouts.map(({ name }) => name));
    for (const name of Object.keys(registers)) {
      if (!expected.has(name)) throw this.#refuse(`there is no register ${name}`);
    }
    const loaded: Record<string, number | number[]> = {};
    for (const layout of layouts) loaded[layout.name] = this.#parse(layout, registers[layout.name]);
    Object.assign(this.values, loaded);
  }

  #upgraded(state: unknown): RegisterState["registers"] {
    const { version, registers } = (state ?? {}) as Partial<RegisterState>;
    const { version: ours, upgrades } = this.#parts;
    if (!Number.isInteger(version) || version === undefined || typeof registers !== "object") {
      throw this.#refuse("expected { version, registers }");
    }
    if (version > ours) throw this.#refuse(`version ${version} is newer than ${ours}`);
    let current = registers;
    for (let from = version; from < ours; from++) {
      const upgrade = upgrades[from];
      if (upgrade === undefined) throw this.#refuse(`version ${from} has no upgrade to ${from + 1}`);
      current = upgrade(current);
    }
    return current;
  }

  #parse(layout: RegisterLayout, value: unknown): number | number[] {
    const { name, width, isArray, count } = layout;
    const isValue = (number: unknown): number is number =>
      typeof number === "number" && Number.isInteger(number) && number >= 0 && number < 2 ** (8 * width);
    if (!isArray) {
      if (isValue(value)) return value;
      throw this.#refuse(`${name}: expected ${width} bytes, found ${JSON.stringify(value)}`);
    }
    if (Array.isArray(value) && value.length === count && value.every(isValue)) return [...value];
    throw this.#refuse(`${name}: expected ${count} values of ${width} bytes, found ${JSON.stringify(value)}`);
  }

  #refuse(reason: string): RestoreError {
    return new RestoreError(this.#parts.name, reason);
  }
}

/** Gives every register in `values` its reset value; makes those that are not there. */
export function resetValues(
  layouts: readonly RegisterLayout[],
  values: Record<string, number | number[]>,
): void {
  for (const { name, resets, isArray } of layouts) {
    const held = values[name];
    if (!isArray) {
      values[name] = resets[0] ?? 0;
    } else if (typeof held === "object") {
      for (const [index, reset] of resets.entries()) held[index] = reset;
    } else {
      values[name] = [...resets];
    }
  }
}
