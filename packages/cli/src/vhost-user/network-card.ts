import { netSpec, parseMac } from "@northbridge/devices-virtio";
import * as v from "valibot";

/** Descriptors of each queue, as the guest sees it. */
export const QUEUE_SIZE = 256;

const { Config, Feature } = netSpec;

/** What frames may leave undone. */
export const OFFLOAD_FEATURES: readonly number[] = [
  ...[Feature.CSUM, Feature.HOST_TSO4, Feature.HOST_TSO6, Feature.HOST_ECN],
  ...[Feature.GUEST_CSUM, Feature.GUEST_TSO4, Feature.GUEST_TSO6, Feature.GUEST_ECN],
];

/** Bytes of the configuration space as far as the status (virtio 1.3 §5.1.4). */
export const STATUS_END: number = Config.STATUS + 2;

/** Options of a card whose frames this process does not see. */
export const cardOptions: {
  readonly mac: v.OptionalSchema<v.GenericSchema<string>, undefined>;
  readonly slot: v.OptionalSchema<v.GenericSchema<number>, undefined>;
} = {
  mac: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (text) => parseMac(text) !== undefined,
        "expected a unicast MAC address such as 52:54:00:12:34:56",
      ),
    ),
  ),
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
};

export interface CardConfig {
  /** `52:54:00:12:34:56`, a unicast address. @defaultValue made of the device's id */
  readonly mac?: string | undefined;
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
}
