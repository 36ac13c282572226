import { RestoreError } from "@northbridge/sdk";
import * as v from "valibot";

/** Parses saved states: a foreign, damaged or newer one is refused with the field's name, never half-loaded. */
export type StateSchema<S> = v.GenericSchema<unknown, S>;

const unsigned = (bits: number): StateSchema<number> =>
  v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** bits - 1));

/** Register widths of saved states. */
export const u8: StateSchema<number> = unsigned(8);
export const u16: StateSchema<number> = unsigned(16);
export const u32: StateSchema<number> = unsigned(32);
/** A whole number of ticks or nanoseconds: of these, more than 2^53 after 104 days. */
export const tick: StateSchema<number> = v.pipe(v.number(), v.integer());
export const flag: StateSchema<boolean> = v.boolean();

/** Returns `state` as `S`. Throws `RestoreError` naming `device`, the field, what was expected and what was found. */
export function parseState<S>(device: string, schema: StateSchema<S>, state: unknown): S {
  const result = v.safeParse(schema, state);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new RestoreError(device, `${v.getDotPath(issue) ?? "state"}: ${issue.message}`);
}
