import {
  type ConfigSchema,
  defineHostEnd,
  type HostEndContext,
  type HostEndKind,
  type HostEndSlots,
  logLine,
  type NetBackend,
  NorthbridgeError,
} from "@northbridge/sdk";
import * as v from "valibot";
import { ControlledLink } from "../link/controlled-link.ts";
import { Unplugged } from "../link/unplugged.ts";
import type { RateLimit } from "../link/token-bucket.ts";
import type { Scheduler } from "../scheduler.ts";
import { parseMac } from "../wire/address.ts";
import { checkedBy } from "./checked-by.ts";
import { MachineScheduler } from "./machine-scheduler.ts";

/** Options that every network kind has. */
export interface CommonNetConfig {
  /** `false`: where the host refuses, the guest sees no cable and the machine goes on. @defaultValue true */
  readonly required?: boolean | undefined;
  /** The only addresses that the guest may send from and is sent to. @defaultValue any */
  readonly macs?: readonly string[] | undefined;
  readonly limit?:
    | { readonly fromGuest?: RateLimit | undefined; readonly toGuest?: RateLimit | undefined }
    | undefined;
}

const positive = v.pipe(v.number("expected a number"), v.gtValue(0, "expected a number above 0"));
const rate = v.strictObject({ bytesPerSecond: v.optional(positive), framesPerSecond: v.optional(positive) });
const common = {
  required: v.optional(v.boolean("expected true or false")),
  macs: v.optional(v.array(v.string("expected a MAC address"))),
  limit: v.optional(v.strictObject({ fromGuest: v.optional(rate), toGuest: v.optional(rate) })),
};

/** A back end, and the counters that only its kind has. */
export interface OpenedNet {
  readonly backend: NetBackend;
  readonly stats?: () => Readonly<Record<string, number>>;
}

/** What defines one network kind. */
export interface NetKindSpec<Entries extends v.ObjectEntries> {
  readonly kind: string;
  readonly options: Entries;
  readonly ends?: HostEndSlots;
  /** Throws `NB_CONFIG` that begins with the option's path, for what the host need not be asked about. */
  check?(options: v.InferOutput<v.StrictObjectSchema<Entries, undefined>>): void;
  open(
    options: v.InferOutput<v.StrictObjectSchema<Entries, undefined>>,
    context: HostEndContext,
    /** The time that the back end lives by. */
    scheduler: Scheduler,
  ): Promise<OpenedNet>;
  /** Tries the ends under it. */
  tryOpen?(
    options: v.InferOutput<v.StrictObjectSchema<Entries, undefined>>,
    context: HostEndContext,
  ): Promise<NetBackend | undefined>;
}

const parseMacs = (macs: readonly string[] | undefined): readonly Uint8Array[] | undefined =>
  macs?.map((mac, index) => parseMac(mac, `macs[${index}]`));

/** Defines a network kind: its own options, and beside them those that all have. */
export function defineNetKind<const Entries extends v.ObjectEntries, Config extends object>(
  spec: NetKindSpec<Entries>,
): HostEndKind<"net", Config & CommonNetConfig> {
  type Own = v.InferOutput<v.StrictObjectSchema<Entries, undefined>>;
  const check = (all: object): void => {
    const { required: _required, macs, limit: _limit, ...own } = all as Own & CommonNetConfig;
    parseMacs(macs);
    spec.check?.(own as unknown as Own);
  };
  const options = checkedBy(
    v.strictObject({ ...spec.options, ...common }) as v.GenericSchema<unknown, object>,
    check,
  ) as unknown as ConfigSchema<Config & CommonNetConfig, unknown>;
  return defineHostEnd({
    kind: spec.kind,
    of: "net",
    options,
    ...(spec.ends && { ends: spec.ends }),
    tryOpen: (all: unknown, context) => spec.tryOpen?.(all as Own, context),
    async open(all: unknown, context) {
      const { required, macs, limit, ...own } = all as Own & CommonNetConfig;
      const scheduler = new MachineScheduler(context.clock);
      const opening = spec.open(own as unknown as Own, context, scheduler);
      const opened = await opening.catch((error: unknown): OpenedNet => {
        if (required !== false || !(error instanceof NorthbridgeError) || error.code !== "NB_HOST")
          throw error;
        logLine(context.log, context.device, `no network: ${error.message}`);
        return { backend: new Unplugged() };
      });
      const link = new ControlledLink(opened.backend, { macs: parseMacs(macs), limit, scheduler });
      context.onStats(() => ({ ...opened.stats?.(), ...link.stats }));
      return link;
    },
  });
}
