import * as v from "valibot";

/** A back end of the host, as configs write it: its kind and that kind's options. */
export interface HostEndConfig {
  readonly kind: string;
  readonly [option: string]: unknown;
}

export const hostEnd: v.GenericSchema<HostEndConfig> = v.looseObject({ kind: v.string() });
