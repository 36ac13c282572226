import type { BusAccess } from "@northbridge/core/contracts";
import {
  fieldMask,
  fieldOf,
  type FieldSpec,
  type RegisterSpec,
  type RegisterSpecs,
  withField,
} from "./declaration.ts";
import type { RegisterMap } from "./register-map.ts";

/** A field's value: the names it has, or any number. */
type FieldValue<F> = F extends FieldSpec<infer E> ? number | E : number;

/** Fields to write, by name. */
type FieldsOf<S extends RegisterSpec> = { readonly [F in keyof S["fields"]]?: FieldValue<S["fields"][F]> };

/** One register as a driver sees it. */
export interface RegisterPort<S extends RegisterSpec> {
  readonly address: number;
  read(): number;
  /** Reads the register and takes it apart. */
  fields(): { readonly [F in keyof S["fields"]]: number };
  /** Writes a number, or fields: bits of fields that are not named are 0. */
  write(value: number | FieldsOf<S>): void;
  /** Reads, replaces the named fields, and writes back. */
  update(fields: FieldsOf<S>): void;
}

/** Every register by name; of an array, every element by index. */
export type RegisterPorts<R extends RegisterSpecs> = {
  readonly [K in keyof R]: R[K] extends { readonly count: number }
    ? readonly RegisterPort<R[K]>[]
    : RegisterPort<R[K]>;
};

/** Typed access to a device's registers through a bus, as a driver has it. */
export function registerPorts<R extends RegisterSpecs>(
  map: RegisterMap<R>,
  bus: BusAccess,
  base: number,
): RegisterPorts<R> {
  return Object.fromEntries(
    map.layouts.map(({ name, offset, width, stride, count, isArray, spec }) => {
      const ports = Array.from({ length: count }, (_, index) =>
        portAt(bus, base + offset + index * stride, width, spec),
      );
      return [name, isArray ? ports : ports[0]];
    }),
  ) as RegisterPorts<R>;
}

function portAt(
  bus: BusAccess,
  address: number,
  width: 1 | 2 | 4,
  spec: RegisterSpec,
): RegisterPort<RegisterSpec> {
  const compose = (start: number, fields: Readonly<Record<string, number | string | undefined>>): number => {
    let value = start;
    for (const [name, wanted] of Object.entries(fields)) {
      const field = spec.fields?.[name];
      const number = typeof wanted === "string" ? field?.values?.[wanted] : wanted;
      if (field === undefined) throw new TypeError(`no field ${name}`);
      if (number === undefined) throw new TypeError(`${name} has no value ${String(wanted)}`);
      value = withField(value, fieldMask(field), number);
    }
    return value;
  };
  const port: RegisterPort<RegisterSpec> = {
    address,
    read: () => bus.read(address, width),
    fields: () => {
      const value = bus.read(address, width);
      return Object.fromEntries(
        Object.entries(spec.fields ?? {}).map(([name, field]) => [name, fieldOf(value, fieldMask(field))]),
      );
    },
    write: (value) => {
      bus.write(address, width, typeof value === "number" ? value : compose(0, value));
    },
    update: (fields) => {
      bus.write(address, width, compose(bus.read(address, width), fields));
    },
  };
  return port;
}
