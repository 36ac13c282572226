import { NorthbridgeError } from "@northbridge/core/contracts";
import type { RegisterBehaviour, RegisterHooks } from "./behaviour.ts";
import { compileDecoder, type DecoderFactory } from "./compile-decoder.ts";
import { fieldMask, type FieldMasks, type RegisterSpecs, type RegisterValues } from "./declaration.ts";
import { type ElementTable, elementTable, PartialAccess } from "./partial-access.ts";
import { RegisterFile, type RegisterUpgrade, resetValues } from "./register-file.ts";
import { layOut, type RegisterLayout } from "./register-layout.ts";

/** What a register map says of itself, beside its registers. */
export interface RegisterMapOptions {
  /** Bytes of the region. @defaultValue up to the last register, rounded up to a power of two */
  readonly length?: number;
  /** What gaps and write-only bits read as. @defaultValue `"zeros"` */
  readonly unreadable?: "zeros" | "ones";
  /** Of the saved state: one more with every change that older snapshots do not fit. @defaultValue 1 */
  readonly version?: number;
  /** By the version that they upgrade from. */
  readonly upgrades?: Readonly<Record<number, RegisterUpgrade>>;
}

/** The registers of a kind of device, declared once: see {@link registerMap}. */
export class RegisterMap<R extends RegisterSpecs> {
  readonly name: string;
  readonly specs: R;
  /** Bytes of the region. */
  readonly length: number;
  /** Lowest offset first. */
  readonly layouts: readonly RegisterLayout[];
  /** The mask of every field, in place: `masks.CTRL.ENABLE`. */
  readonly masks: FieldMasks<R>;
  readonly #options: RegisterMapOptions;
  readonly #elements: ElementTable;
  /** By which hooks there are. */
  readonly #decoders = new Map<string, DecoderFactory>();

  constructor(name: string, specs: R, options: RegisterMapOptions) {
    this.name = name;
    this.specs = specs;
    this.layouts = layOut(name, specs);
    const end = this.layouts.reduce(
      (most, { offset, stride, count, width }) => Math.max(most, offset + (count - 1) * stride + width),
      1,
    );
    this.length = options.length ?? 2 ** Math.ceil(Math.log2(end));
    if (this.length < end) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `register map ${name}: ${this.length} bytes do not hold all ${end}`,
      );
    }
    this.#options = options;
    this.#elements = elementTable(this.layouts, this.length);
    this.masks = masksOf(specs) as FieldMasks<R>;
  }

  /** What gaps and write-only bits read as. */
  get unreadable(): "zeros" | "ones" {
    return this.#options.unreadable ?? "zeros";
  }

  /** The registers of one device, at their reset values. */
  create(behaviour: RegisterBehaviour<R> = {}): RegisterFile<R> {
    const values: Record<string, number | number[]> = {};
    resetValues(this.layouts, values);
    const hooks: Readonly<Record<string, RegisterHooks | undefined>> = behaviour.hooks ?? {};
    const sync = behaviour.sync?.bind(behaviour);
    const parts = { values, hooks, sync };
    const readsOnes = this.unreadable === "ones";
    const partial = new PartialAccess(this.#elements, parts, readsOnes);
    return new RegisterFile<R>({
      name: this.name,
      version: this.#options.version ?? 1,
      upgrades: this.#options.upgrades ?? {},
      layouts: this.layouts,
      values: values as RegisterValues<R>,
      decoder: this.#factory(hooks, sync !== undefined)(parts, partial),
      partial,
    });
  }

  #factory(hooks: Readonly<Record<string, RegisterHooks | undefined>>, hasSync: boolean): DecoderFactory {
    const key =
      this.layouts
        .map(({ name }) => `${hooks[name]?.read ? "r" : "-"}${hooks[name]?.write ? "w" : "-"}`)
        .join("") + String(hasSync);
    let factory = this.#decoders.get(key);
    if (factory === undefined) {
      factory = compileDecoder(this.layouts, hooks, hasSync, this.unreadable === "ones");
      this.#decoders.set(key, factory);
    }
    return factory;
  }
}

/**
 * Declares a device's registers once. The decoder, the saved state, typed access in tests, names in traces, the
 * reference, the C header and the fuzzer's grammar all come from it. Throws `NB_CONFIG` where registers overlap or
 * fields do not fit.
 *
 * @example
 * ```ts
 * const map = registerMap("thermometer", {
 *   CTRL: { offset: 0, fields: { ENABLE: bit(0), IRQ: bit(1) } },
 *   STATUS: { offset: 4, access: "w1c", fields: { ALARM: bit(0) } },
 *   TEMP: { offset: 8, access: "ro" },
 * });
 * const regs = map.create({ hooks: { TEMP: { read: () => 21_000 } }, sync: () => line.set(regs.values.STATUS !== 0) });
 * ctx.mapMmio({ base, length: map.length }, regs.handler);
 * ```
 */
export function registerMap<const R extends RegisterSpecs>(
  name: string,
  registers: R,
  options: RegisterMapOptions = {},
): RegisterMap<R> {
  return new RegisterMap(name, registers, options);
}

function masksOf(specs: RegisterSpecs): Record<string, Record<string, number>> {
  return Object.fromEntries(
    Object.entries(specs).map(([name, { fields = {} }]) => [
      name,
      Object.fromEntries(Object.entries(fields).map(([field, spec]) => [field, fieldMask(spec)])),
    ]),
  );
}
